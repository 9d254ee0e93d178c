"""Virtual images; `stem4d.analyse.virtual.method` is where it starts, `outcome` what maps of a pass get."""
