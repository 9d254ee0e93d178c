"""Orientation mapping: diffraction patterns matched with kinematic templates of one crystal."""
