"""Reports are made of what stands in the database and the files, and of nothing else."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_run import CENTRE_PX, NIGHT, PLAN, REFUSED, RUN, Recorded, record
from test_report_pages import Page

from stem4d.errors import BadInput
from web.report.assemble import write_night_report, write_run_report
from web.report.plates import Calibrated


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Recorded once for all tests here; none of them changes it."""
    made = record(tmp_path_factory.mktemp("recorded"))
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def written(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the acquired run."""
    return write_run_report(recorded.engine, RUN, tmp_path_factory.mktemp("reports"))


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_run_page_is_written_under_its_name_and_nothing_else(written: Path):
    assert [path.name for path in written.parent.iterdir()] == [written.name] == [f"{RUN}.html"]


def test_run_page_shows_what_was_recorded(recorded: Recorded, written: Path):
    page = page_of(written)
    words = page.words()
    for said in (
        "Overview of a <grain>",
        recorded.receipts[0].sha256,
        recorded.receipts[1].sha256,
        "dwell time 100\u00a0µs",
        "Bad pixels 1",
        "pixels left out of every sum",
        "diffraction shift and descan that were set for the scan",
        "1 px = 2 mrad (nominal, of the plan), disk of 16 mrad (nominal, of the plan)",
        "1, at (y, x) (2, 3)",
        f"fresh; measured in run {RUN}",
        "drift.rate seen",
        "descan range correct descan – – 0.1 px",
        "pass 1 of 1",
        "All is well",
        "0 to 16\u00a0mrad",
        "24 × 40 (y × x)",
        "nightbeam 0.1.0",
        "2026-11-22 21:04:",
    ):
        assert said.replace("\u00a0", " ") in words, said
    alts = " ".join(image["alt"] for image in page.every("img"))
    for said in (
        "Mean pattern of 32 by 32 pixels",
        f"centred at row {CENTRE_PX[0]:.1f}, column {CENTRE_PX[1]:.1f}",
        "0 pixels reached the full scale of 4095 counts",
        "Virtual image bright_field, 0 to 16 mrad",
        "Virtual image dark_field, 18 to 28 mrad",
        "Field of 4 nm across and 2.4 nm down",
        "Centre of mass, y component [mrad]",
        "3\u202f200 by this run, of 2 × 10⁵ allowed",
    ):
        assert said in alts, said


def test_vacuum_scans_show_descan_before_and_after_without_the_hot_pixel(written: Path):
    page = page_of(written)
    alts = {image["alt"].partition(".")[0]: image["alt"] for image in page.every("img")}
    # The disk moves by 4 px over the rows; means of nine blocks of rows reach 8/9 of it, and the flat background over
    # the whole detector pulls a few hundredths of it back.
    before = float(alts["Disk position, vacuum, before correction [px]"].split("moves by ")[1].split(" px")[0])
    after = float(alts["Disk position, vacuum, after correction [px]"].split("moves by ")[1].split(" px")[0])
    assert 3.0 < before < 3.7
    assert after < 0.3
    assert "The limit of the movement is 1 px" in alts["Disk position, vacuum, after correction [px]"]
    # Atoms move the centre of mass too: with vacuum scans at hand the specimen's would mislead.
    assert not [alt for alt in alts if "on the specimen" in alt]


def test_two_passes_show_how_far_the_specimen_moved(written: Path):
    page = page_of(written)
    titles = [text for text in page.text if "pass 1 of 2" in text or "pass 2 of 2" in text]
    assert "Virtual images, pass 1 of 2" in titles
    assert "Virtual images, pass 2 of 2" in titles
    drift = next(image["alt"] for image in page.every("img") if image["alt"].startswith("Drift"))
    # (1, -2) positions of 0.1 nm; shot noise moves the fit by some hundredths of a position.
    assert float(drift.split("moved by ")[1].split("\u00a0nm")[0]) == pytest.approx(0.1 * 5**0.5, abs=0.01)


def test_vacuum_exposures_do_not_count_as_dose_of_the_area(written: Path):
    assert "crystal, lamella-1 3 121 3 200 0 0 2 × 10⁵ 1.968 × 10⁵" in page_of(written).words()


def test_refused_run_has_a_page_without_pictures(recorded: Recorded, tmp_path: Path):
    page = page_of(write_run_report(recorded.engine, REFUSED, tmp_path))
    assert page.every("img") == []
    assert "no frame was recorded" in page.words()
    assert "no overlap" in page.words()


def test_run_whose_file_is_gone_still_has_its_page(tmp_path: Path):
    made = record(tmp_path)
    shutil.rmtree(made.data)
    try:
        words = page_of(write_run_report(made.engine, RUN, tmp_path)).words()
    finally:
        made.engine.dispose()
    assert "the data cannot be read" in words
    assert "there is no such file" in words


def test_unknown_names_are_refused_and_nothing_is_written(recorded: Recorded, tmp_path: Path):
    for write in (write_run_report, write_night_report):
        with pytest.raises(BadInput, match="not in this database"):
            write(recorded.engine, "../../etc/x", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_night_page_tells_the_story_in_order_and_links_the_pages_beside_it(recorded: Recorded, tmp_path: Path):
    (tmp_path / f"{RUN}.html").touch()
    page = page_of(write_night_report(recorded.engine, NIGHT, tmp_path))
    words = page.words()
    told = words[words.index("times in UTC") :]
    story = (f"{NIGHT} started", f"{RUN} started", "pass 1 of 1", "good: pending to mended", f"{REFUSED} started")
    places = [told.index(said) for said in story]
    assert places == sorted(places)
    assert [a["href"] for a in page.every("a") if not a["href"].startswith("#")] == [f"{RUN}.html"]
    for said in ("1. good", "mended", "reduce dwell: exposure: dwell time 100", "2. bad", "refused", "3 121 → 3 200"):
        assert said in words, said


def test_latest_night_needs_no_name(recorded: Recorded, tmp_path: Path):
    assert write_night_report(recorded.engine, None, tmp_path).name == f"{NIGHT}.html"


def test_report_can_be_made_again_the_same(recorded: Recorded, written: Path):
    first = written.read_bytes()
    assert write_run_report(recorded.engine, RUN, written.parent).read_bytes() == first


def test_pictures_use_what_was_calibrated_and_say_what_is_nominal() -> None:
    assert Calibrated().nominal() == ("angle", "convergence", "step")
    assert Calibrated().step_nm(PLAN) == (0.1, 0.1)
    known = Calibrated(mrad_per_pixel=2.02, convergence_semi_angle_mrad=16.3, step_ratio=(1.01, 0.985))
    assert known.nominal() == ()
    assert known.step_nm(PLAN) == pytest.approx((0.101, 0.0985))
