"""The unit that a vocabulary name carries in its suffix."""

_UNITS = {
    "e_per_a2": "e/Å²",
    "nm_per_min": "nm/min",
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
    "deg": "deg",
    "px": "px",
    "gb": "GB",
    "bytes": "B",
}


def unit_of(name: str) -> str:
    """Unit of a name such as ``defocus_nm``; empty where the name carries none."""
    words = name.rsplit(".", 1)[-1].split("_")
    tails = ("_".join(words[start:]) for start in range(0 if name == "mrad_per_pixel" else 1, len(words)))
    return next((_UNITS[tail] for tail in tails if tail in _UNITS), "")
