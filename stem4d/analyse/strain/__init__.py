"""Strain from the positions of Bragg disks; `stem4d.analyse.strain.method` is where it starts."""
