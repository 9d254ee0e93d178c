"""The ``settings`` table of an instrument file whose column is reached by temscript's server."""

from typing import Annotated, Literal

from pydantic import Field

from devices.beside import Host, Port
from devices.protocols import Matrix
from stem4d.approach import StagePose
from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFile
from stem4d.model import Name, NonNegative, Positive, Range, Strict
from storage.documents import validate

Index = Annotated[int, Field(ge=0, le=100)]


class SpotIndex(Strict):
    """A spot of the microscope, and the current that was measured with it."""

    index: Index
    probe_current_pa: Positive


class CameraLengthIndex(Strict):
    """A camera length of the microscope, as it indicates it."""

    index: Index
    camera_length_mm: Positive


class TemscriptSettings(Strict):
    """What the server does not tell, and a person has to."""

    host: Host
    port: Port = 8080
    instrument_mode: Literal["STEM", "TEM"] = "STEM"
    """The mode that the microscope has to be in; it is not changed from here."""
    projection_mode: Literal["DIFFRACTION", "IMAGING"] = "DIFFRACTION"
    """The same of the projector."""
    spots: tuple[SpotIndex, ...]
    camera_lengths: tuple[CameraLengthIndex, ...]
    focus: Literal["probe_defocus", "defocus"] = "probe_defocus"
    """Which of the server's values focuses the probe."""
    focus_positive: Literal["overfocus", "underfocus"]
    """What more of it means: to be measured, as manuals differ."""
    spherical_aberration_mm: NonNegative = 0.0
    """Of the column as it is aligned; it is not changed from here."""
    beam_shift_axes: Matrix = ((1.0, 0.0), (0.0, 1.0))
    """The server's shift, (y, x), for one along the scan's axes, (y, x): rows and columns."""
    diffraction_shift_mrad: Range | None = None
    """How far each axis of it goes; without it the diffraction shift is left as it is."""
    diffraction_shift_axes: Matrix = ((1.0, 0.0), (0.0, 1.0))
    """As ``beam_shift_axes``, for the detector's axes."""
    stigmator_per_nm: Matrix | None = None
    """The server's condenser stigmator, (y, x), for one nm of (cos 2φ, sin 2φ): its own unit is none."""
    positions: dict[Name, StagePose] = Field(default_factory=dict)
    """Where the stage goes by name."""
    stage_method: Literal["MOVE", "GO"] = "MOVE"
    """``MOVE`` takes the tilts to zero on the way, which keeps off the pole piece; ``GO`` goes straight."""
    stage_tolerance_um: Positive = 0.05
    stage_tolerance_deg: Positive = 0.02
    """By how much the stage may read otherwise than it was sent."""
    answer_timeout_s: Positive = 2.0
    """Of everything but these two: reading a value takes milliseconds."""
    stage_timeout_s: Positive = 120.0
    normalise_timeout_s: Positive = 60.0


def read_settings(file: InstrumentFile) -> TemscriptSettings:
    """The settings of a file, held against its facts.

    Raises
    ------
    BadInput
        For settings that are wrong, or facts that they leave open.
    """
    settings = validate(file.settings, TemscriptSettings, "settings")
    facts = file.facts
    for name in ("beam_shift_axes", "diffraction_shift_axes", "stigmator_per_nm"):
        matrix = getattr(settings, name)
        if matrix is not None and abs(determinant(matrix)) <= 1e-12 * max(abs(each) for row in matrix for each in row):
            raise BadInput(field=f"settings.{name}", value=matrix, limit="must be a matrix that can be inverted")
    if facts.stigmator_nm is not None and settings.stigmator_per_nm is None:
        raise BadInput(
            field="settings.stigmator_per_nm",
            value=None,
            limit="facts.stigmator_nm states a stigmator; what one nm is in the server's terms is not said",
            remedy="Measure it, or leave facts.stigmator_nm out",
        )
    for table, field, stated in (
        ("camera_lengths", "camera_length_mm", facts.camera_lengths_mm),
        ("spots", "probe_current_pa", ()),
    ):
        _no_twice(table, field, getattr(settings, table))
        known = [getattr(row, field) for row in getattr(settings, table)]
        for value in stated:
            if not any(abs(value - each) <= 1e-6 * each for each in known):
                raise BadInput(
                    field=f"settings.{table}",
                    value=known,
                    limit=f"facts state {field} {value:g}, of which no index is given here",
                )
    for area in facts.areas:
        if area not in settings.positions:
            raise BadInput(
                field="settings.positions",
                value=sorted(settings.positions),
                limit=f"facts.areas names {area}, which has no position here",
            )
    return settings


def determinant(matrix: Matrix) -> float:
    """Of a 2 x 2 matrix."""
    (a, b), (c, d) = matrix
    return a * d - b * c


def applied(matrix: Matrix, pair: tuple[float, float]) -> tuple[float, float]:
    """A matrix times a pair."""
    (a, b), (c, d) = matrix
    return a * pair[0] + b * pair[1], c * pair[0] + d * pair[1]


def inverse(matrix: Matrix) -> Matrix:
    """Of a 2 x 2 matrix."""
    (a, b), (c, d), by = *matrix, determinant(matrix)
    return (d / by, -b / by), (-c / by, a / by)


def _no_twice(table: str, field: str, rows: tuple[Strict, ...]) -> None:
    for name in ("index", field):
        values = [getattr(row, name) for row in rows]
        if len(set(values)) < len(values):
            raise BadInput(field=f"settings.{table}", value=values, limit=f"each {name} may stand there once")
    if not rows:
        raise BadInput(field=f"settings.{table}", value=[], limit="needs at least one entry")
