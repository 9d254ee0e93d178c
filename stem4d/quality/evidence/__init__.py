"""Evidence: what a figure of quality was taken from, as plain data for a page to draw."""
