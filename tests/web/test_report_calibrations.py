"""The page of calibrations: every fit drawn on its data, values with errors and units, gates in words, hostile text."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_run import CENTRE_PX, DETECTOR, PLAN, RADIUS_PX, RUN, SCAN, Recorded, Ticking, record
from test_report_pages import NASTY, Page

from db.calibrations import add_calibration, invalidate
from db.engine import writer
from db.results import add_dataset
from stem4d.errors import BadInput
from storage.disk import sha256_of_file
from web.report.calibrations import standing_mask, write_calibration_report
from web.report.figures import measured
from web.report.figures.fits import pattern_with_rings, positions_with_plane
from web.report.parts import standing_words

RING = {
    "centre_px": list(CENTRE_PX),
    "radius_px": 12.0,
    "ellipticity": 0.05,
    "ellipse_angle_deg": 30.0,
    "label": "ring",
}
MEASURED: dict[str, dict[str, Any]] = {
    "pixel_mask": {"value": {"bad_pixels": [[2, 3]]}},
    "centre": {
        "value": {"centre_px": list(CENTRE_PX), "radius_px": RADIUS_PX, "edge_width_px": 0.5},
        "uncertainty": {"centre_px": [0.01, 0.02], "radius_px": 0.01},
        "residual": 0.0125,
    },
    # The frames of the first file move by 4 px over the 24 rows of 0.1 nm: 1.739 px/nm, at 2 mrad per pixel.
    "descan": {"value": {"descan_mrad_per_nm": [[-3.478, 0.0], [0.0, 0.0]], "range_after_px": 0.1}},
    "current": {"value": {"true_over_commanded": 0.998}, "uncertainty": {"true_over_commanded": 0.001}},
    "mrad_per_pixel": {"value": {"mrad_per_pixel": 2.0, "source": "reference"}, "curves": {"rings": [RING]}},
    "drift": {
        "value": {"drift_nm_per_min": [0.1, None]},
        "curves": {"x": [0, 1], "data": [0, 0.1], "fit": [0, 0.11], "x_label": "time [min]", "y_label": "moved [nm]"},
    },
    "scan_step": {"value": {}, "verdict": "not_measurable", "reason": NASTY, "unit": "nm"},
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    made = record(tmp_path_factory.mktemp("recorded"))
    clock = Ticking()
    with writer(made.engine) as session:
        files = [
            add_dataset(
                session, run_id=1, pass_index=1000 + index, sha256=sha256_of_file(made.data / RUN / name), size_bytes=1,
                scan_shape=SCAN, detector_shape=DETECTOR, dtype="uint16", frames=SCAN[0] * SCAN[1], complete=True,
                purpose="calibration", path=str(made.data / RUN / name),
            )
            for index, name in enumerate(("vacuum-before.h5", "vacuum-after.h5"))
        ]  # fmt: skip
        ids = {
            kind: add_calibration(
                session,
                **{"kind": kind, "mode_key": "camera_length_mm=50", "instrument": "demo", "unit": "px",
                   "measured_at": clock(), "verdict": "pass", "valid_until": clock() + timedelta(hours=12), **facts},
                evidence_run_id=1,
                evidence=files if kind == "descan" else files[1:] if facts["value"] else (),
            )
            for kind, facts in MEASURED.items()
        }  # fmt: skip
        invalidate(session, ids["current"], NASTY, by="Ada", clock=clock)
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def written(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_calibration_report(recorded.engine, RUN, tmp_path_factory.mktemp("reports"))


def test_the_page_says_values_with_errors_units_and_standing(written: Path) -> None:
    assert written.name == f"{RUN}-calibrations.html"
    words = Page(written.read_text(encoding="utf-8")).words()
    for said in (
        "Disk radius 8.000 ± 0.010 px 8 px (+0 %)",
        "Disk centre, along the detector's y 15.000 ± 0.010 px",
        "Disk centre, along the detector's x 17.000 ± 0.020 px",
        "True over commanded current 0.9980 ± 0.0010",
        "Correction of the descan, detector y per scan y −3.478 mrad/nm",
        "Drift of the specimen, along the scan's y 0.1 nm/min",
        "Angle per pixel 2 mrad/px 2 mrad/px (+0 %)",
        "(y, x) on the detector: (2, 3)",
        "Misfit of the disk's edge 1.2 %",
        # The disk is 0.5 px above and 1.5 px right of the middle (15.5, 15.5) of 32 pixels.
        "Disk off the detector's middle 1.6 px – after correction: −0.5 px along the detector's y, 1.5 px along its x",
        "Holds for camera length 50 mm",
        "Written 2026-",
        f"nightbeam show {RUN}",
        "Valid until 2026-11-23",
        "withdrawn by Ada",
        "not measurable",
        "kept as evidence, never used",
        "vacuum-before.h5",
    ):
        assert said in words.replace("\u00a0", " "), said


def test_how_a_calibration_stands_is_said_in_the_same_words_everywhere() -> None:
    now = datetime(2026, 11, 27, 12, tzinfo=UTC)
    fresh = {"withdrawn": None, "superseded_by": None, "verdict": "warn", "valid_until": "2026-11-27T12:00:01+00:00"}
    gone = {"by": "Ada", "at": "2026-11-26T08:00:00+00:00", "reason": "it moved"}
    for changed, said in (
        ({}, "in force, valid until 2026-11-27 12:00:01 UTC"),
        ({"valid_until": None}, "in force"),
        ({"valid_until": "2026-11-27T12:00:00+00:00"}, "expired, it was valid until 2026-11-27 12:00:00 UTC"),
        ({"verdict": "fail"}, "kept as evidence, never used"),
        ({"superseded_by": 7}, "superseded by number 7"),
        ({"withdrawn": gone, "superseded_by": 7}, "withdrawn by Ada at 2026-11-26 08:00:00 UTC: it moved"),
    ):
        assert standing_words({**fresh, **changed}, now) == said


def test_every_fit_is_drawn_on_its_data_and_told(written: Path) -> None:
    alts = [image["alt"] or "" for image in Page(written.read_text(encoding="utf-8")).every("img")]
    told = " ".join(alts)
    for said in (
        "Mean pattern and bad pixels",
        "disk of 8 px about row 15, column 17",
        "The fitted edge lies at 8 px",
        "before correction [px]. Points are measured",
        "Counts of a vacuum pattern",
        "ring of 12 px",
        "Moved [nm]: 2 points",
    ):
        assert said in told, said
    # The plane that the calibration states takes all of the movement: what is left is shot noise.
    before = next(alt for alt in alts if "before correction" in alt)
    assert float(before.rsplit("rms about it ", 1)[1].split(" px")[0]) < 0.25


def test_hostile_text_stays_text(written: Path) -> None:
    page = Page(written.read_text(encoding="utf-8"))
    assert not page.every("script")
    assert NASTY in page.words()


def test_a_page_without_its_files_says_so(recorded: Recorded, tmp_path: Path) -> None:
    away = recorded.data / RUN / "vacuum-after.h5"
    shutil.move(away, tmp_path / "elsewhere.h5")
    try:
        page = write_calibration_report(recorded.engine, RUN, tmp_path).read_text(encoding="utf-8")
    finally:
        shutil.move(tmp_path / "elsewhere.h5", away)
    assert "There is no picture, as the evidence cannot be read" in page
    with pytest.raises(BadInput, match="nightbeam runs"):
        write_calibration_report(recorded.engine, "r0", tmp_path)


def test_an_ellipse_keeps_the_area_of_its_circle_and_the_long_axis_its_direction() -> None:
    drawing = pattern_with_rings(np.ones((32, 32)), [RING], np.zeros((32, 32), bool), "Pattern")
    (ellipse,) = drawing.figure.axes[0].patches
    assert ellipse.width * ellipse.height == pytest.approx((2 * 12.0) ** 2)  # type: ignore[attr-defined]
    assert ellipse.width / ellipse.height == pytest.approx(1.05)  # type: ignore[attr-defined]
    assert ellipse.angle == 30.0  # type: ignore[attr-defined]
    assert ellipse.center == (17.0, 15.0)  # type: ignore[attr-defined]


def test_the_rms_about_a_plane_is_that_of_the_noise() -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:20, :20]
    plane = np.stack([0.1 * y, 0.05 * x], axis=-1)
    drawing = positions_with_plane(plane + rng.normal(0, 0.2, plane.shape), plane, 0.1, "before correction")
    assert "Field of 2 nm (y) by 2 nm (x)" in drawing.alt
    # 800 values: 2.5 % of the rms itself, three times that.
    assert float(drawing.alt.rsplit("rms about it ", 1)[1].split(" px")[0]) == pytest.approx(0.2, rel=0.08)


def test_rings_are_drawn_on_the_scale_of_what_lies_outside_the_central_disk() -> None:
    """A central beam a thousand times as bright as the ring, and a pixel that no mask knows."""
    y, x = np.indices((64, 64)) - 32
    radius = np.hypot(y, x)
    pattern = 1000.0 * (radius < 3) + np.exp(-((radius - 20) ** 2) / 2)
    pattern[5, 5] = 1e5
    rings = [{"centre_px": [32, 32], "radius_px": r, "label": label} for r, label in ((3.0, "disk"), (20.0, "ring"))]
    invalid = np.zeros(pattern.shape, bool)
    invalid[40, 41] = True
    drawing = pattern_with_rings(pattern, rings, invalid, "Mean pattern and fit")
    shown = drawing.figure.axes[0].images[0]
    assert shown.norm.vmax == pytest.approx(1.0, abs=0.05)
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == [
        "disk, ring",
        "1 bad pixel, left out",
    ]
    drawing.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in drawing.figure.axes[1].get_yticklabels()]
    assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))


def test_the_mask_that_stood_is_of_the_same_detector_and_energy_and_was_not_withdrawn_before() -> None:
    def mask(at: str, pixel: int, key: str = "detector=sim; detector_shape=(32, 32); beam_energy_kev=200",
             withdrawn: str | None = None) -> dict[str, Any]:  # fmt: skip
        gone = None if withdrawn is None else {"at": withdrawn, "by": "Ada", "reason": "wrong"}
        return {"measured_at": at, "mode_key": key, "value": {"bad_pixels": [[pixel, 0]]}, "withdrawn": gone}

    masks = [
        mask("2026-01-01T00:00", 1),
        mask("2026-01-02T00:00", 2, withdrawn="2026-01-05T00:00"),
        mask("2026-01-03T00:00", 3, key="detector=other; detector_shape=(32, 32); beam_energy_kev=200"),
        mask("2026-01-03T00:00", 4, key="detector=sim; detector_shape=(32, 32); beam_energy_kev=80"),
    ]
    assert standing_mask(masks, PLAN, "2025-12-31T00:00") == []
    assert standing_mask(masks, PLAN, "2026-01-01T12:00") == [(1, 0)]
    assert standing_mask(masks, PLAN, "2026-01-04T00:00") == [(2, 0)]
    assert standing_mask(masks, PLAN, "2026-01-06T00:00") == [(1, 0)]


def test_the_rotation_is_drawn_with_its_band_and_told_beside_the_curves_minimum() -> None:
    angles = np.linspace(-90, 90, 181)
    curl = 0.7 - 0.15 * np.cos(np.radians(2 * (angles - 10)))
    drawing = measured.rotation(angles, curl, curl, found_deg=190.3, uncertainty_deg=2.9, deflections_deg=12.0)
    assert "lowest at 10°; recorded is 10.3 ± 2.9°" in drawing.alt
    assert "rotation 10.3 ± 2.9°, band: standard error" in [
        text.get_text() for text in drawing.figure.legends[0].get_texts()
    ]
    (band,) = drawing.figure.axes[0].patches
    assert (band.get_x(), band.get_width()) == pytest.approx((10.3 - 2.9, 5.8))  # type: ignore[attr-defined]
