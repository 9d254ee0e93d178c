"""From a failing figure to what is done about it: one file for each kind of action, and the table that chooses."""
