"""Evidence on the page: drawn with names, units and signs, open where it has to be seen, and never in the way."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle as Ring
from report_run import RUN, Recorded, record
from test_report_pages import Page

from db.engine import reader, writer
from db.questions.show import show_run
from db.results import add_quality
from stem4d.plan import Plan
from stem4d.quality.evidence.values import Circle, Curves, Image, Level, Marks, Panel, Series, Span
from web.report.assemble import plan_of, write_run_report
from web.report.evidence_run import _started_s
from web.report.figures.canvas import as_picture
from web.report.figures.evidence import FEW, THINNEST, evidence, outline_of

PATTERN = np.random.default_rng(1).poisson(20, (16, 20)).astype(np.float64)
CLIPPED = np.zeros(PATTERN.shape, bool)
CLIPPED[3, 4] = CLIPPED[8, 9] = True
IMAGE = Image(
    metrics=("saturation.disk",),
    title="Largest count of each pixel",
    values=PATTERN,
    unit="counts",
    place="detector",
    scale="asinh",
    marks=(Marks("at full scale (63)", CLIPPED), Marks("masked", np.roll(CLIPPED, 2, axis=1))),
    circles=(Circle("disk", (8.0, 9.5), 5.0), Circle("dark field, inner edge", (8.0, 9.5), 7.0)),
    points=(("middle of the detector", (7.5, 9.5)),),
)
TIME = np.arange(600.0)
CURVES = Curves(
    metrics=("beam.dropouts",),
    title="Counts of each frame",
    x_label="frame, in order of time",
    y_label="counts per frame",
    series=(
        Series("frames", TIME, np.full(600, 50.0), of="a"),
        Series("fit", TIME, np.full(600, 50.0), role="line", of="a"),
        Series("others", TIME, np.full(600, 40.0), np.full(600, 1.0)),
        Series("so far it may go", TIME, np.full(600, 60.0), role="limit"),
    ),
    levels=(Level("planned", 70.0), Level("limit", 3.0), Level("limit", -3.0)),
    spans=(Span(100.0, 100.0), Span(200.0, 349.0)),
    span_name="beam dropped out, 2 times",
)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


@pytest.mark.parametrize(
    ("places", "edges"), [([(2, 3)], 4), ([(2, 3), (2, 4)], 6), ([(2, 3), (3, 4)], 8), ([(0, 0)], 4), ([], 0)]
)
def test_marked_pixels_are_outlined_where_they_face_others(places: list[tuple[int, int]], edges: int) -> None:
    mask = np.zeros((5, 6), bool)
    for place in places:
        mask[place] = True
    found = outline_of(mask)
    assert len(found) == edges
    for start, end in found:
        assert np.abs(end - start).sum() == 1
        # The two sides of an edge differ: one is marked.
        middle = (start + end) / 2
        across = np.array([0.5, 0.0]) if start[0] == end[0] else np.array([0.0, 0.5])
        sides = [tuple(np.rint(middle + sign * across).astype(int)[::-1]) for sign in (-1, 1)]
        assert sorted(side in places for side in sides) == [False, True]


def test_outlines_of_binned_maps_lie_on_the_positions_they_stand_for() -> None:
    mask = np.zeros((4, 4), bool)
    mask[1, 2] = True
    found = outline_of(mask, 3).reshape(-1, 2)
    assert (found.min(axis=0), found.max(axis=0)) == (pytest.approx((5.5, 2.5)), pytest.approx((8.5, 5.5)))


def test_an_image_says_what_is_marked_and_where() -> None:
    drawing = evidence(IMAGE)
    axes = drawing.figure.axes[0]
    assert axes.get_title(loc="left") == "Largest count of each pixel [counts]"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("detector x [px]", "detector y [px]")
    assert drawing.figure.axes[1].get_ylabel() == "counts (asinh scale)"
    assert legend(drawing.figure) == [
        "disk",
        "dark field, inner edge",
        "middle of the detector, (7.5, 9.5)",
        "at full scale (63): 2",
        "masked: 2",
    ]
    rings = [patch for patch in axes.patches if isinstance(patch, Ring)]
    assert [(ring.center, ring.radius) for ring in rings] == [((9.5, 8.0), 5.0), ((9.5, 8.0), 7.0)]
    assert "Marked as at full scale (63): 2 pixels, at (y, x) (3, 4), (8, 9)." in drawing.alt
    marked = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert list(zip(marked[0].get_ydata(), marked[0].get_xdata(), strict=True)) == [(3, 4), (8, 9)]


def test_nothing_is_told_by_colour_alone() -> None:
    axes = evidence(IMAGE).figure.axes[0]
    rings = [patch for patch in axes.patches if isinstance(patch, Ring)]
    assert len({str(ring.get_linestyle()) for ring in rings}) == len(rings)
    signs = [line.get_marker() for line in axes.lines]
    assert len(set(signs)) == len(signs)
    handles = evidence(CURVES).figure.legends[0].legend_handles
    looks = [
        (h.get_hatch(),) if hasattr(h, "get_hatch") else (h.get_marker(), str(h.get_linestyle()), h.get_color())
        for h in handles
    ]
    without_colour = [look[:2] for look in looks]
    lines = [look for look in looks if len(look) == 3 and look[0] in ("", "None")]
    assert len(set(without_colour)) >= len(looks) - len(lines)
    assert ("////",) in looks


def test_of_many_marked_places_the_outline_alone_is_drawn() -> None:
    many = np.zeros(PATTERN.shape, bool)
    many[:, :3] = True
    assert many.sum() > FEW
    axes = evidence(replace(IMAGE, marks=(Marks("missing", many),), points=())).figure.axes[0]
    assert len(axes.lines) == 0
    outlines = [each for each in axes.collections if isinstance(each, LineCollection)]
    assert len(outlines[0].get_segments()) == 2 * (16 + 3)


def test_curves_have_their_levels_and_spans_in_view() -> None:
    drawing = evidence(CURVES)
    axes = drawing.figure.axes[0]
    low, high = axes.get_ylim()
    assert low < -3
    assert high > 70
    assert legend(drawing.figure)[-3:] == ["planned: 70", "limit: 3 and −3", "beam dropped out, 2 times"]
    boxes = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
    # A single frame is widened until it can be seen, about its own place.
    across = axes.get_xlim()[1] - axes.get_xlim()[0]
    assert boxes[0].width >= 0.9 * THINNEST * across
    assert (boxes[0].x0 + boxes[0].x1) / 2 == pytest.approx(100, abs=0.01)
    assert (boxes[1].x0, boxes[1].x1) == pytest.approx((199.5, 349.5))
    assert "beam dropped out, 2 times: 100 to 100, 200 to 349." in drawing.alt


def test_a_model_looks_like_its_data_and_a_limit_like_none_of_them() -> None:
    lines = {line.get_label(): line for line in evidence(CURVES).figure.axes[0].lines}
    handles = dict(zip(legend(evidence(CURVES).figure), evidence(CURVES).figure.legends[0].legend_handles, strict=True))
    assert lines["fit"].get_color() == handles["frames"].get_color() != handles["others"].get_color()
    assert lines["so far it may go"].get_color() not in {handles["frames"].get_color(), handles["others"].get_color()}


@pytest.mark.parametrize(
    ("factor", "told"), [(1.0, ""), (1e3, ""), (1e4, ", in 10⁵"), (1e-6, ", in 10⁻⁵"), (1e10, ", in 10¹¹")]
)
def test_numbers_of_a_scale_fit_beside_it(factor: float, told: str) -> None:
    image = evidence(replace(IMAGE, values=PATTERN * factor, scale="linear", marks=()))
    plot = evidence(replace(CURVES, series=(Series("one", TIME, TIME * factor / 20),), levels=(), spans=()))
    assert image.figure.axes[1].get_ylabel() == f"counts{told}"
    assert plot.figure.axes[0].get_ylabel() == f"counts per frame{told}"
    for drawing in (image, plot):
        drawing.figure.canvas.draw()
        edge = drawing.figure.bbox
        for axes in drawing.figure.axes:
            box = axes.get_tightbbox()
            assert box is not None
            assert box.x0 >= edge.x0
            assert box.x1 <= edge.x1


EMPTY = np.full((4, 6), np.nan)
EXTREMES: dict[str, Panel] = {
    "nothing known": replace(IMAGE, values=EMPTY, marks=(), circles=(), points=()),
    "one pixel": replace(IMAGE, values=np.ones((1, 1)), marks=(Marks("all", np.ones((1, 1), bool)),)),
    "one row": replace(IMAGE, values=np.ones((1, 400)), marks=(), place="scan", scale="linear"),
    "one column": replace(IMAGE, values=np.ones((400, 1)), marks=(), place="scan", scale="signed"),
    "zeros": replace(IMAGE, values=np.zeros((8, 8)), marks=()),
    "huge": replace(IMAGE, values=PATTERN * 1e12, scale="linear"),
    "tiny and signed": replace(IMAGE, values=(PATTERN - 20) * 1e-9, scale="signed"),
    "all marked": replace(IMAGE, marks=(Marks("all", np.ones(PATTERN.shape, bool)),)),
    "one value": replace(CURVES, series=(Series("one", np.zeros(1), np.ones(1), role="line"),), spans=()),
    "no value": replace(CURVES, series=(Series("none", TIME, np.full(600, np.nan)),), levels=()),
    "constant and equal": replace(CURVES, equal=True, spans=(), levels=()),
    "long names": replace(CURVES, title="A title " * 20, series=(Series("name " * 40, TIME, TIME),)),
}


@pytest.mark.parametrize("kind", EXTREMES)
def test_extremes_are_drawn_and_said(kind: str) -> None:
    drawing = evidence(EXTREMES[kind])
    picture = as_picture(drawing, 1.0)
    assert picture.data.startswith(b"\x89PNG")
    assert picture.height_px < 900
    assert not {"nan", "None", "inf"} & set(drawing.alt.replace(".", " ").replace(",", " ").split())
    # On a phone of 375 CSS pixels the picture shrinks to 340, and its text of 8 points with it.
    assert picture.width_px == 440


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """A recorded run with a warning, a failure and what was not measured."""
    made = record(tmp_path_factory.mktemp("judged"))
    with reader(made.engine) as session:
        run_id = show_run(session, name=RUN)["id"]
    rows = (
        ("centring.offset", "com", "warn", 1.5, 0.8, "px"),
        ("saturation.anywhere", None, "pass", 0.0, None, ""),
        ("dose.electrons", None, "fail", 5000.0, 3121.0, "e/pattern"),
        ("scan.jitter", None, "not_measurable", None, 0.25, "steps"),
    )
    told: dict[str, Any] = {"run_id": run_id, "stage": "final", "uncertainty": 0.01}
    with writer(made.engine) as session:
        for metric, analysis, verdict, value, limit, unit in rows:
            add_quality(session, metric=metric, analysis=analysis, verdict=verdict, value=value, limit=limit, unit=unit,
                        message=f"{metric} told", **told)  # fmt: skip
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def html(judged: Recorded, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its page."""
    return write_run_report(judged.engine, RUN, tmp_path_factory.mktemp("pages")).read_text(encoding="utf-8")


def section(html: str) -> str:
    return html[html.index('<section id="evidence">') : html.index('<section id="pictures">')]


def test_what_is_not_well_lies_open_and_what_passed_is_folded(html: str) -> None:
    whole = section(html)
    folded = "".join(part.split("</details>")[0] for part in whole.split("<details>")[1:])
    opened = "".join(part.split("</details>")[-1] for part in whole.split("<details>"))
    assert "Electrons in a pattern" in opened
    assert "Mean pattern and fitted disk" in opened
    assert "Largest count of each pixel" in folded
    assert "Movement of the pattern" in folded
    assert "Electrons in a pattern" not in folded
    # What fails comes before what warns.
    assert opened.index("<h3>Dose</h3>") < opened.index("<h3>Centring</h3>")


def test_every_picture_has_its_figures_and_an_alternative(html: str) -> None:
    page = Page(section(html))
    pictures = page.every("img")
    # One each of dose, centring and saturation; three of the descan, whose residual was not judged.
    assert len(pictures) == len(page.every("figcaption")) == 6
    assert all(len(each["alt"] or "") > 40 for each in pictures)
    words = page.words()
    assert "✕ fail dose electrons: 5 000.000 ± 0.010 e/pattern; limit 3 121 e/pattern" in words
    assert "centring offset for com" in words


def test_what_was_not_measured_says_why_it_has_no_picture(html: str) -> None:
    words = Page(section(html)).words()
    after = words[words.index("Not measured, and so without a picture") :]
    assert "scan jitter scan.jitter told" in after
    assert "drift rate drift.rate seen" in after
    assert "Rows off their places" not in html


def test_the_page_stays_small_enough_to_be_sent(html: str) -> None:
    # Pictures of a few ten kB each, a third more as text; a mail lets ten times the page through.
    assert len(section(html)) < 80_000 * 4 / 3 * html.count("<figcaption>")
    assert len(html) < 2_500_000


def test_starts_are_those_of_the_instrument_or_as_planned(judged: Recorded) -> None:
    with reader(judged.engine) as session:
        facts = show_run(session, name=RUN)
    plan: Plan = plan_of(facts)
    planned = _started_s(facts, plan, 2)
    # 24 rows of 40 positions of 50 us.
    assert planned[1] - planned[0] == pytest.approx(24 * 40 * 50e-6 + plan.exposure.pause_between_passes_s, rel=0.1)
    told = {**facts, "events": [{"data": {"started_s": at}} for at in (7.0, 19.5)] + [{"data": None}]}
    assert _started_s(told, plan, 2) == [7.0, 19.5]
    assert _started_s(told, plan, 3) != [7.0, 19.5]
