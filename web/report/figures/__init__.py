"""The pictures of a report: pure functions from arrays and geometry to drawings."""
