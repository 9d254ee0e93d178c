"""Centre of mass, DPC and iDPC; `stem4d.analyse.com.method` is where it starts, `outcome` what maps of a pass get."""
