"""The unit that a vocabulary name carries in its suffix."""

_UNITS = {
    "e_per_a2": "e/Å²",
    "rad_per_e_per_a2": "rad Å²/e",
    "per_e_per_a2": "Å²/e",
    "nm_per_min": "nm/min",
    "nm_per_min2": "nm/min²",
    "mrad_per_nm": "mrad/nm",
    "mrad_per_nm2": "mrad/nm²",
    "per_um2": "1/µm²",
    "per_nm": "1/nm",
    "per_h": "1/h",
    "per_s": "1/s",
    "a_rms": "Å",
    "rad": "rad",
    "mrad_per_pixel": "mrad",
    "kev": "keV",
    "mrad": "mrad",
    "nm": "nm",
    "a": "Å",
    "um": "µm",
    "mm": "mm",
    "us": "µs",
    "s": "s",
    "min": "min",
    "hours": "h",
    "hz": "Hz",
    "pa": "pA",
    "pascal": "Pa",
    "deg": "deg",
    "px": "px",
    "gb": "GB",
    "bytes": "B",
}


def unit_of(name: str) -> str:
    """Unit of a name such as ``defocus_nm`` or ``shift_mrad[0]``; empty where the name carries none."""
    words = name.rsplit(".", 1)[-1].partition("[")[0].split("_")
    tails = ("_".join(words[start:]) for start in range(0 if name == "mrad_per_pixel" else 1, len(words)))
    return next((_UNITS[tail] for tail in tails if tail in _UNITS), "")
