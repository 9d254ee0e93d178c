"""What an exposure whose end nobody wrote is charged with, by what the column's log says of it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.open_intents import OpenIntent
from devices.beam_times import Lit, Witness, witness
from devices.protocols import ColumnSetting, ScanRequest
from stem4d.dose import electrons, local_fluence_e_per_a2
from stem4d.errors import BadInput
from stem4d.optics import defocused_probe_diameter_a
from stem4d.plan import Optics
from tasks.bounds import bound

BEGAN = datetime(2026, 11, 27, 21, tzinfo=UTC)
OPTICS = Optics(
    beam_energy_kev=200.0,
    convergence_semi_angle_mrad=21.4,
    defocus_nm=30.0,
    probe_current_pa=30.0,
    camera_length_mm=106.4,
)
COLUMN = ColumnSetting(optics=OPTICS)
RASTER = ScanRequest(
    shape=(4, 8), step_nm=0.4, rotation_deg=0.0, dwell_time_us=50.0, flyback_us=0.0, flyback_blanked=True
)
DIAMETER_A = defocused_probe_diameter_a(200.0, 21.4, 30.0, 0.0)
PLANNED = local_fluence_e_per_a2(30.0, 50.0, 0.4, DIAMETER_A)


def intent(fluence: float = PLANNED, owner: int | None = 7) -> OpenIntent:
    return OpenIntent(1, "r1/pass1", "r1", 1, "lamella", fluence, BEGAN, owner)


def told(seconds: float, column: ColumnSetting | None = COLUMN, raster: ScanRequest | None = RASTER) -> Witness:
    return Witness(frozenset({7}), {"r1/pass1": Lit(seconds, column, raster)})


def log_of(folder: Path, *entries: tuple[str, float, dict[str, Any]]) -> Path:
    """A column's log; the wall's clock goes on by the second of each tuple, and the instrument's by ``simulated_s``."""
    lines = [
        json.dumps(
            {
                "event": event,
                "simulated_s": facts.get("simulated_s", at_s),
                "wall": (BEGAN + timedelta(seconds=at_s)).isoformat(),
                **facts,
            }
        )
        for event, at_s, facts in entries
    ]
    (folder / "column.jsonl").write_text("\n".join(lines) + "\n")
    return folder


SESSION = ("owner", 0.0, {"owner_token": 7})
LIT = ("unblank", 1.0, {"exposure": "r1/pass1", "owner_token": 7})


@pytest.mark.parametrize(
    ("one", "witnessed", "why"),
    [
        (intent(), None, "cannot be read"),
        (intent(), Witness(frozenset(), {}), "does not tell of the session"),
        (intent(owner=None), Witness(frozenset({7}), {}), "does not tell of the session"),
        (intent(owner=8), Witness(frozenset({7}), {}), "does not tell of the session"),
        (intent(), told(float("inf")), "no end of the beam"),
        (intent(), told(50e-6), "a dwell or more"),
        (intent(), told(1e-9, raster=None), "a dwell or more"),
    ],
)
def test_where_the_log_cannot_tell_all_that_was_booked_is_charged(
    one: OpenIntent, witnessed: Witness | None, why: str
) -> None:
    most = bound(one, witnessed)
    assert most.fluence_e_per_a2 == one.fluence_e_per_a2
    assert why in most.origin


def test_a_beam_that_was_never_on_is_charged_nothing() -> None:
    most = bound(intent(), Witness(frozenset({7}), {}))
    assert (most.fluence_e_per_a2, most.electrons) == (0.0, 0.0)


@given(st.floats(0, 1), st.floats(1, 5), st.integers(0, 40))
def test_the_bound_is_never_below_what_a_beam_of_that_time_gives(seconds: float, ratio: float, dwells: int) -> None:
    """A raster that stands at its places one after the other, its current ``ratio`` times the commanded one."""
    lasted_s = min(seconds * 50e-6 + dwells * 50e-6, RASTER.duration_s)
    most = bound(intent(PLANNED * ratio), told(lasted_s))
    area_a2 = min(16.0, 3.141592653589793 * DIAMETER_A**2 / 4)
    at_one_place = electrons(30.0 * ratio, min(lasted_s, 50e-6) * 1e6) / area_a2
    assert at_one_place * (1 - 1e-12) <= most.fluence_e_per_a2 <= PLANNED * ratio
    assert most.electrons is not None
    assert most.electrons >= electrons(30.0 * ratio, lasted_s * 1e6) * (1 - 1e-12)


def test_a_beam_that_was_on_for_longer_than_its_raster_gave_no_area_more() -> None:
    """The probe parks outside the field at the raster's end."""
    most = bound(intent(), told(3600.0))
    assert most.electrons == pytest.approx(electrons(30.0, RASTER.duration_s * 1e6))


def test_the_log_tells_how_long_a_beam_was_on_and_what_it_did(tmp_path: Path) -> None:
    log_of(
        tmp_path,
        SESSION,
        ("column", 0.1, {"setting": COLUMN.model_dump(mode="json")}),
        ("raster", 0.2, {"request": RASTER.model_dump(mode="json")}),
        LIT,
        ("blank", 1.5, {}),
        ("blank", 9.0, {}),
    )
    found = witness(tmp_path)
    assert found.owners == {7}
    assert found.lit == {"r1/pass1": Lit(0.5, COLUMN, RASTER)}


def test_of_two_clocks_the_one_that_went_further_counts(tmp_path: Path) -> None:
    """The instrument's stands still while its server is dead, the wall's nearly does in accelerated runs."""
    dead = log_of(tmp_path, SESSION, LIT, ("blank", 61.0, {"simulated_s": 1.0}))
    assert witness(dead).lit["r1/pass1"].seconds == 60.0
    quick = log_of(tmp_path, SESSION, LIT, ("blank", 1.0, {"simulated_s": 31.0}))
    assert witness(quick).lit["r1/pass1"].seconds == 30.0


def test_a_beam_without_an_end_is_without_an_end(tmp_path: Path) -> None:
    assert witness(log_of(tmp_path, SESSION, LIT)).lit["r1/pass1"].seconds == float("inf")
    no_wall = log_of(tmp_path, SESSION, LIT, ("blank", 2.0, {"wall": "soon"}))
    assert witness(no_wall).lit["r1/pass1"].seconds == float("inf")


def test_a_log_that_was_begun_anew_in_a_session_does_not_tell_of_it(tmp_path: Path) -> None:
    log_of(tmp_path, ("unblank", 5.0, {"exposure": "r1/pass2", "owner_token": 7}), ("blank", 6.0, {}))
    assert "does not tell of the session" in bound(intent(), witness(tmp_path)).origin


def test_a_folder_without_a_log_tells_nothing_and_a_garbled_log_is_refused(tmp_path: Path) -> None:
    assert witness(tmp_path) == Witness(frozenset(), {})
    (tmp_path / "column.jsonl").write_text('["event"]\n')
    with pytest.raises(BadInput):
        witness(tmp_path)
