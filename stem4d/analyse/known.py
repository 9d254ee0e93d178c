"""What a person says of a data set that carries no calibration of ours: a small document, and the geometry it gives."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stem4d.analyse.method import Given
from stem4d.errors import BadInput
from stem4d.model import Positive, Strict
from stem4d.plan import Milliradian, NanometreLength


class Known(Strict):
    """Calibration of a data set; what is absent is taken from the file, or else refused where it is needed."""

    format_version: Literal[1]
    beam_energy_kev: Annotated[float, Field(ge=10, le=1500)] | None = None
    convergence_semi_angle_mrad: Milliradian | None = None
    mrad_per_pixel: Milliradian | None = None
    scan_step_nm: NanometreLength | tuple[NanometreLength, NanometreLength] | None = None
    """One number, or (y, x)."""
    centre_px: tuple[float, float] | None = None
    """(y, x) in pixel-centre indices; found in the sum of all patterns where absent."""
    scan_rotation_deg: float | None = None
    """From scan to detector, as docs/conventions.md has it; unknown where absent."""
    mirrored: bool | None = None
    """Where absent: not mirrored if the rotation is said, else unknown."""
    defocus_nm: Annotated[float, Field(ge=-1e5, le=1e5)] | None = None
    thickness_nm: NanometreLength | None = None
    ellipticity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ellipse_angle_deg: float = 0.0
    electrons_per_pattern: Annotated[float, Field(gt=0, le=1e15)] | None = None
    counts_per_electron: Annotated[float, Field(ge=1e-9, le=1e9)] = 1.0
    full_scale: Annotated[int, Field(ge=1)] | None = None
    bad_pixels: tuple[tuple[int, int], ...] = ()
    """(y, x) of pixels to leave out."""
    uncertainty: dict[str, Positive] = Field(default_factory=dict)
    """Standard uncertainties of figures above, by their names: those of `UNCERTAIN`."""


NEEDED = ("beam_energy_kev", "convergence_semi_angle_mrad", "mrad_per_pixel", "scan_step_nm")


UNCERTAIN = (
    "beam_energy_kev",
    "convergence_semi_angle_mrad",
    "mrad_per_pixel",
    "scan_step_nm",
    "centre_px",
    "scan_rotation_deg",
    "defocus_nm",
    "thickness_nm",
    "ellipticity",
    "ellipse_angle_deg",
    "electrons_per_pattern",
    "counts_per_electron",
)
"""Figures of the document that may have an uncertainty."""


def given_of(
    known: Known,
    facts: Mapping[str, Any],
    detector_shape: tuple[int, int],
    centre_px: tuple[float, float] | None = None,
    full_scale: int | None = None,
) -> Given:
    """The geometry that a person's words and a file's facts come to; the person's win.

    Parameters
    ----------
    known : Known
        What the person says.
    facts : mapping
        Metadata of the file in our vocabulary.
    detector_shape : (int, int)
        (det_y, det_x).
    centre_px : (float, float), optional
        Where the disk was found, for want of the person's word.
    full_scale : int, optional
        By the file's own account.

    Raises
    ------
    BadInput
        Something without which no analysis can be made is nowhere said, or a pixel or centre lies off the detector.
    """
    said = {name: getattr(known, name) for name in NEEDED}
    said |= {name: _number(facts.get(name)) for name, value in said.items() if value is None}
    if missing := [name for name, value in said.items() if value is None]:
        raise BadInput(
            field=", ".join(missing),
            value="nothing",
            limit="is neither in the file nor in what you say of it",
            remedy="Write it into the calibration file (--calibration FILE.yaml)",
        )
    step = said["scan_step_nm"]
    centre = known.centre_px or centre_px
    if centre is None or not all(0 <= at < size for at, size in zip(centre, detector_shape, strict=True)):
        limit = f"has to lie on the detector of {detector_shape[0]} x {detector_shape[1]} pixels"
        remedy = "Say where the undeflected beam is"
        raise BadInput(field="centre_px", value=centre or "nothing", limit=limit, remedy=remedy)
    if other := sorted(set(known.uncertainty) - set(UNCERTAIN)):
        remedy = f"Those that may have one: {', '.join(UNCERTAIN)}"
        raise BadInput(field="uncertainty", value=other[0], limit="is no figure of this document", remedy=remedy)
    return Given(
        beam_energy_kev=said["beam_energy_kev"],
        convergence_semi_angle_mrad=said["convergence_semi_angle_mrad"],
        mrad_per_pixel=said["mrad_per_pixel"],
        scan_step_nm=step if isinstance(step, tuple) else (step, step),
        origin_px=np.array(centre, dtype=np.float64),
        bad_pixels=_mask(known.bad_pixels, detector_shape),
        # The file's is what the scan was told to turn by, and says nothing of the detector.
        scan_rotation_deg=known.scan_rotation_deg,
        mirrored=False if known.mirrored is None and known.scan_rotation_deg is not None else known.mirrored,
        defocus_nm=_either(known.defocus_nm, facts.get("defocus_nm")),
        thickness_nm=_either(known.thickness_nm, facts.get("thickness_nm")),
        ellipticity=known.ellipticity,
        ellipse_angle_deg=known.ellipse_angle_deg,
        electrons_per_pattern=known.electrons_per_pattern,
        counts_per_electron=known.counts_per_electron,
        full_scale=known.full_scale or full_scale,
        uncertainty={"origin_px" if name == "centre_px" else name: one for name, one in known.uncertainty.items()},
    )


def with_known(given: Given, known: Known) -> Given:
    """A run's geometry with a person's words over it; a figure that is said anew has no other uncertainty than theirs.

    Raises
    ------
    BadInput
        A pixel or the centre lies off the detector, or an uncertainty is that of nothing.
    """
    needed = {name: getattr(given, name) for name in NEEDED if getattr(known, name) is None}
    whole = given_of(known.model_copy(update=needed), {}, given.bad_pixels.shape, (0.0, 0.0))
    said = {("origin_px" if one == "centre_px" else one) for one in known.model_fields_set} - {
        "format_version",
        "uncertainty",
    }
    if "scan_rotation_deg" in said:
        said.add("mirrored")
    held = {name: value for name, value in given.uncertainty.items() if name not in said}
    changes = {name: getattr(whole, name) for name in said}
    if "bad_pixels" in said:
        changes["bad_pixels"] = given.bad_pixels | whole.bad_pixels
    return replace(given, **changes | {"uncertainty": {**held, **whole.uncertainty}})


def _either(said: float | None, fact: object) -> float | None:
    return said if said is not None else _number(fact)


def _number(fact: object) -> float | None:
    return float(fact) if isinstance(fact, int | float) and not isinstance(fact, bool) else None


def _mask(pixels: tuple[tuple[int, int], ...], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    for y, x in pixels:
        if not (0 <= y < shape[0] and 0 <= x < shape[1]):
            limit = f"lies off the detector of {shape[0]} x {shape[1]} pixels"
            raise BadInput(field="bad_pixels", value=[y, x], limit=limit)
        mask[y, x] = True
    return mask
