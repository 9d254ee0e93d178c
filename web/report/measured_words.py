"""What the figures of a calibration are called on a page, their units, and what each means in a line."""

from collections.abc import Mapping
from dataclasses import dataclass

from storage.units import unit_of
from web.report.tables import label_and_unit

_YX_DETECTOR = ("along the detector's y", "along the detector's x")
_YX_SCAN = ("along the scan's y", "along the scan's x")


@dataclass(frozen=True)
class Words:
    """A figure in words."""

    label: str
    meaning: str = ""
    unit: str | None = None
    """None where the figure's name carries it."""
    parts: tuple[str, ...] = ()
    """What the components of a list are, row by row where it is a matrix."""
    percent: bool = False
    """A part, said in percent."""


@dataclass(frozen=True)
class Left:
    """What a kind's residual is: its name, its unit, and what is good."""

    label: str
    good: str
    unit: str = ""
    percent: bool = False


FIGURES: Mapping[str, Words] = {
    "centre_px": Words(
        "Disk centre", "pixel-centre index, counted from 0 at the first pixel", parts=_YX_DETECTOR
    ),
    "radius_px": Words("Disk radius", "of the bright-field disk on the detector"),
    "edge_width_px": Words("Blur of the disk's edge", "standard deviation; a sharp disk has 0.3 px"),
    "diffraction_shift_mrad": Words(
        "Correction of the centre",
        "diffraction shift that is set: minus the measured offset of the disk; the error is that of the disk alone",
        parts=_YX_DETECTOR,
    ),
    "descan_mrad_per_nm": Words(
        "Correction of the descan",
        "what is set: minus the measured movement of the disk per nm of scan; the error is that of the disk alone",
        unit="mrad/nm",
        parts=(
            "detector y per scan y", "detector y per scan x", "detector x per scan y", "detector x per scan x",
        ),
    ),
    "range_before_px": Words("Descan before correction", "largest movement of the disk over the field"),
    "range_after_px": Words("Descan left after correction", "largest movement of the disk over the field"),
    "curved": Words("Movement is curved", "whether more than a plane is seen beyond chance"),
    "curved_chance": Words(
        "Chance that noise looks as curved", "below 0.1 % the movement is called curved", percent=True
    ),
    "curved_range_px": Words("Curved part of the movement", "what no linear correction takes away"),
    "beyond_model_px": Words("Neither plane nor curve", "rms of the movement that no quadratic surface describes"),
    "current_pa": Words("Probe current", "from the counts of a vacuum pattern"),
    "true_over_commanded": Words("True over commanded current", "doses are booked with it; 1 is as commanded", ""),
    "hidden_part": Words("Counts put back for bad pixels", "share of all counts that fell on them", percent=True),
    "loss_part": Words(
        "Counts put back for dead time", "share of the counts that the detector missed as they came too fast",
        percent=True,
    ),
    "drift_part": Words("Change of the current", "from the first frame of the scan to the last", percent=True),
    "counts_per_electron": Words("Counts per electron", "1 for a detector that counts every electron once",
                                 "counts/e⁻"),
    "dead_time_s": Words("Dead time", "after each electron; 0 where none shows"),
    "offset_counts": Words("Dark level", "median over the pixels", "counts"),
    "read_noise_counts": Words("Read noise", "median over the pixels", "counts"),
    "odd_pixels": Words("Pixels unlike the others", "in the dark frames", ""),
    "response_spread": Words("Spread of the response", "from pixel to pixel", percent=True),
    "response_known_part": Words("Pixels whose response is known", "share of all", percent=True),
    "mrad_per_pixel": Words("Angle per pixel", "", "mrad/px"),
    "crystal": Words("Reference crystal"),
    "source": Words("Source", "reference: a known crystal; transfer: a convergence angle that is known already"),
    "of": Words("Worked out of calibrations", "their numbers"),
    "period_nm": Words("Period of the reference lattice"),
    "ellipticity": Words("Ellipticity", "long axis over short axis of a ring, less 1", percent=True),
    "ellipse_angle_deg": Words("Long axis of the ellipse", "from the detector's x towards its y"),
    "convergence_semi_angle_mrad": Words("Convergence semi-angle", "half of the cone"),
    "camera_length_mm": Words("Camera length", "at which it was measured"),
    "rotation_deg": Words("Rotation of the scan to the detector", "the scan's x axis, turned towards its y axis"),
    "by_deflections_deg": Words("Rotation by deflections alone", "centre of mass without curl"),
    "by_tilted_images_deg": Words("Rotation by tilted images alone", "shifts of the tilted bright-field images"),
    "mirrored": Words("Detector is mirrored", "its y axis runs against the specimen's"),
    "half_turn_known": Words("Half turn is known", "no: the rotation may be 180° more"),
    "step_y_nm": Words("Scan step along y", "true step where the nominal one was asked for"),
    "step_x_nm": Words("Scan step along x", "true step where the nominal one was asked for"),
    "shear": Words("Shear of the scan", "departure of the axes from a right angle, as a share", percent=True),
    "nominal_step_nm": Words("Nominal scan step", "what the scan was asked for"),
    "defocus_nm": Words("Defocus", "positive: underfocus"),
    "astigmatism_nm": Words("Astigmatism", "twofold"),
    "astigmatism_angle_deg": Words("Direction of the astigmatism", "in the specimen's frame, from x towards y"),
    "sharpness": Words(
        "Distinctness of the alignment", "likelihood of the best one over the median of all that were tried; 2 is good",
        "",
    ),
    "significance": Words("Aligned images above noise", "in standard deviations; it takes 8 to 12", "σ"),
    "drift_nm_per_min": Words("Drift of the specimen", "where features go in later images", parts=_YX_SCAN),
    "speed_nm_per_min": Words("Speed of the drift"),
    "shift_limit_nm_per_min": Words(
        "Error that is allowed to the drift", "a tenth of a scan step over the time it was measured in"
    ),
    "jumped": Words("The stage jumped", "between two of the scans"),
    "bad_pixels": Words("Bad pixels", "left out of every sum and centre", ""),
}  # fmt: skip
"""By name in the value of a calibration; `words_of` makes up for names that are not here."""

RESIDUALS: Mapping[str, Left] = {
    "centre": Left("Misfit of the disk's edge", "rms over the drop across the edge; below 10 % is good", percent=True),
    "descan": Left("Scatter about the plane", "of one pattern's disk, rms; below 0.1 px is good", "px"),
    "current": Left("Flicker of the counts", "frame to frame, beyond shot noise; below 1 % is good", percent=True),
    "counts_per_electron": Left("Departure from the line", "rms of variance; below 3 % is good", percent=True),
    "dark_flat": Left("Change of the dark level", "over the scan, in read noises of a pixel; below 0.1 is good"),
    "mrad_per_pixel": Left("Misfit of the rings", "rms over the highest ring; below 3 % is good", percent=True),
    "ellipticity": Left("Misfit of the rings", "rms over the highest ring; below 3 % is good", percent=True),
    "convergence_semi_angle": Left("Misfit of the disk's edge", "rms over the drop across the edge; below 10 % is good",
                                   percent=True),
    "rotation": Left("Curl over divergence", "of the deflections, weighted rms; 0 is perfect, above 0.8 is noise"),
    "scan_step": Left("Misfit of the lattice", "rms over the length of a wave; below 0.4 % is good", percent=True),
    "defocus": Left("Misfit over counting noise", "power; 1 is counting noise alone"),
    "drift": Left("Scatter about the course", "rms of the scans' places; below 0.1 is good", "scan steps"),
}  # fmt: skip
"""By kind; what is good is what the simulated microscope reaches and no gate."""


def words_of(name: str) -> Words:
    """The words of a figure, made of its name where it is not known."""
    known = FIGURES.get(name)
    if known is not None:
        return known
    label, _unit = label_and_unit(name)
    return Words(label.capitalize())


def unit_for(name: str) -> str:
    """The unit of a figure, empty where there is none."""
    stated = words_of(name).unit
    return unit_of(name) if stated is None else stated


def settings_in_words(mode_key: str) -> str:
    """``camera_length_mm=250; detector=arina`` as people say it: camera length 250 mm; detector arina."""
    return "; ".join(_setting(*entry.partition("=")[::2]) for entry in mode_key.split("; ") if entry)


def _setting(name: str, value: str) -> str:
    if not value:
        return name
    label, unit = label_and_unit(name)
    said = value.strip("()").replace(", ", " × ") if value.startswith("(") else value
    return f"{label} {said}{chr(160) if unit else ''}{unit}"


TITLES: Mapping[str, str] = {
    "pixel_mask": "Bad pixels",
    "centre": "Disk centre",
    "descan": "Descan",
    "current": "Beam current",
    "counts_per_electron": "Counts per electron",
    "dark_flat": "Dark and flat",
    "mrad_per_pixel": "Angle per pixel",
    "ellipticity": "Elliptic distortion",
    "convergence_semi_angle": "Convergence semi-angle",
    "rotation": "Rotation of scan to detector",
    "scan_step": "Scan step",
    "defocus": "Defocus and astigmatism",
    "drift": "Drift",
    # As it was recorded before 0.2.0.
    "disk": "Disk centre",
}
"""Kinds as the command and the pages call them; `title_of` makes up for others."""

NOT_IN_ERRORS: Mapping[str, str] = {
    "descan": "the angle per pixel that turns pixels into mrad: where none was calibrated before, the nominal one, "
    "which may be off by 2 %, and the correction with it",
    "defocus": "the angle per pixel and the scan step: 1 % in either is 1 % of the defocus",
    "rotation": "a shear of the scan, half of which turns the rotation",
}
"""By kind: what else a figure may be off by."""


def title_of(kind: str) -> str:
    """A kind in words."""
    return TITLES.get(kind, kind.replace("_", " ").capitalize())
