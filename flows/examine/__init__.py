"""What can be wrong with a machine that is to run nights, each with the fix; behind `doctor` and the flow `health`."""
