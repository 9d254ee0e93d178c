"""Tilt-corrected bright field: images of every bright-field angle shifted onto each other (see docs/tcbf.md)."""
