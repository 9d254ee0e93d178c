"""What runs when: flows and the command line."""
