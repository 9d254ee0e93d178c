"""The pages of `nightbeam serve`."""
