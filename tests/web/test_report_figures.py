"""The pictures say what they show: labels, units, scale bars, rings, and the right place for every pixel."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from PIL import Image
from report_world import CENTRE_PX, MRAD_PER_PIXEL, SCAN, STEP_NM, Crystal

from stem4d.analyse.method import Picture
from web.report.figures import bars, maps, motion, patterns
from web.report.figures.canvas import as_picture, clip_range, length_label, round_length_nm
from web.report.figures.colour import colour_wheel, direction_colours
from web.report.figures.outcome import outcome_map


def image_axes(figure: Figure) -> Axes:
    return figure.axes[0]


def bar_label(figure: Figure) -> str:
    return figure.axes[1].get_ylabel()


def size_bar(axes: Axes) -> AnchoredSizeBar:
    return next(artist for artist in axes.artists if isinstance(artist, AnchoredSizeBar))


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("field_nm", "length_nm", "label"),
    [(10, 2, "2 nm"), (6.4, 1, "1 nm"), (1.0, 0.2, "2 Å"), (256, 50, "50 nm"), (3.4, 1, "1 nm"), (20000, 5000, "5 µm")],
)
def test_scale_bar_is_the_longest_round_length_below_three_tenths(field_nm, length_nm, label):
    assert round_length_nm(field_nm) == pytest.approx(length_nm)
    assert length_label(round_length_nm(field_nm)) == label


@pytest.mark.parametrize("field_nm", np.geomspace(0.02, 5e4, 61))
def test_scale_bar_stays_round_and_between_an_eighth_and_three_tenths(field_nm):
    length = round_length_nm(field_nm)
    # 0.3 divided by the largest step between round lengths, 2.5
    assert 0.12 * (1 - 1e-9) <= length / field_nm <= 0.3 * (1 + 1e-9)
    assert f"{length:.0e}"[0] in "125"
    assert float(f"{length:.0e}") == pytest.approx(length)


@pytest.mark.parametrize(
    ("values", "unit", "span"),
    [
        ([[10.0, 20.0]], "deg", (0.0, 360.0)),
        ([[-30.0, 0.0]], "deg", (-180.0, 180.0)),
        ([[0.1, 3.0]], "rad", (0.0, 2 * np.pi)),
    ],
)
def test_a_map_of_angles_goes_once_round(values, unit, span):
    picture = Picture("direction", "Direction", np.array(values), unit, "angle", (0.5, 0.5))
    (image,) = image_axes(outcome_map(picture).figure).get_images()
    assert image.get_clim() == span
    low, high = image.to_rgba(np.array(values[0]))
    assert not np.allclose(low, high, atol=0.01)


def test_virtual_image_has_units_square_positions_and_a_true_scale_bar(crystal: Crystal):
    drawing = maps.virtual_image(crystal.dark, "ADF", STEP_NM, crystal.geometry.detectors[1])
    axes = image_axes(drawing.figure)
    assert axes.get_title(loc="left") == "Virtual image ADF, 24 to 46 mrad [counts]"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("scan x [nm]", "scan y [nm]")
    assert bar_label(drawing.figure) == "counts per frame"
    box = axes.get_window_extent()
    assert box.width / box.height == pytest.approx(SCAN[1] / SCAN[0], rel=1e-6)
    left, right, bottom, top = axes.images[0].get_extent()
    assert (left, top) == pytest.approx((-STEP_NM / 2, -STEP_NM / 2))
    assert (right - left, bottom - top) == pytest.approx((SCAN[1] * STEP_NM, SCAN[0] * STEP_NM))
    bar = size_bar(axes)
    assert bar.size_bar.get_children()[0].get_width() == pytest.approx(1.0)
    assert bar.txt_label.get_text() == "1 nm"
    assert "6.4 nm across and 3.84 nm down" in drawing.alt


def test_scan_position_zero_is_drawn_at_the_top_left(crystal: Crystal):
    marked = np.zeros(SCAN)
    marked[:12, :12] = 100.0
    picture = as_picture(maps.virtual_image(marked, "BF", STEP_NM, None))
    pixels = np.asarray(Image.open(BytesIO(picture.data)).convert("L"))
    axes = image_axes(maps.virtual_image(marked, "BF", STEP_NM, None).figure)
    x0, y0, x1, y1 = axes.get_position().extents * np.array([*pixels.shape[::-1]] * 2)
    height = pixels.shape[0]
    assert pixels[int(height - y1) + 20, int(x0) + 20] > 200
    assert pixels[int(height - y1) + 20, int(x1) - 20] < 50
    assert pixels[int(height - y0) - 20, int(x0) + 20] < 50


def test_patterns_are_in_mrad_from_the_centre_with_disk_and_detectors(crystal: Crystal):
    drawing = patterns.mean_pattern(crystal.mean, crystal.geometry)
    axes = image_axes(drawing.figure)
    assert axes.get_title(loc="left") == "Mean pattern [counts per frame]"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("angle x [mrad]", "angle y [mrad]")
    assert bar_label(drawing.figure) == "counts per frame (asinh scale)"
    left, _, _, top = axes.images[0].get_extent()
    # The centre of pixel (0, 0) lies half a pixel inside the corner.
    assert (top + MRAD_PER_PIXEL / 2, left + MRAD_PER_PIXEL / 2) == pytest.approx(
        tuple(-c * MRAD_PER_PIXEL for c in CENTRE_PX)
    )
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    assert [(circle.get_label(), circle.radius) for circle in circles] == [
        ("disk", 18.0),
        ("BF", 18.0),
        ("ADF", 24.0),
        ("ADF", 46.0),
    ]
    assert all(circle.center == (0, 0) for circle in circles)
    assert legend_texts(drawing.figure) == ["disk, 18 mrad", "BF, 0 to 18 mrad", "ADF, 24 to 46 mrad"]
    assert "ADF from 24 to 46 mrad" in drawing.alt


def test_colour_bar_ticks_are_counts_within_the_scale(crystal: Crystal):
    figure = patterns.mean_pattern(crystal.mean, crystal.geometry).figure
    labels = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    ticks = figure.axes[1].get_yticks()
    assert labels[0] == "0"
    assert [float(label) for label in labels] == pytest.approx(list(ticks))
    assert max(ticks) <= crystal.mean.max()


def test_pixels_at_full_scale_are_counted_and_marked(crystal: Crystal):
    clipped = int((crystal.maximum >= 110).sum())
    assert clipped > 0
    drawing = patterns.maximum_pattern(crystal.maximum, crystal.geometry, full_scale=110)
    assert f"{clipped} px at full scale" in legend_texts(drawing.figure)
    assert f"{clipped} pixels reached the full scale of 110 counts" in drawing.alt
    clean = patterns.maximum_pattern(crystal.maximum, crystal.geometry, full_scale=4095)
    assert len(image_axes(clean.figure).images) == 1


def test_invalid_pixels_do_not_set_the_scale(crystal: Crystal):
    hot = crystal.maximum.copy()
    hot[3, 4] = 65535
    invalid = hot == 65535
    shown = image_axes(patterns.maximum_pattern(hot, crystal.geometry, invalid).figure).images[0]
    assert shown.norm.vmax == crystal.maximum[~invalid].max()
    assert bool(shown.get_array().mask[3, 4])


def test_missing_frames_are_masked_and_said(crystal: Crystal):
    holes = crystal.bright.copy()
    holes[-3:] = np.nan
    drawing = maps.virtual_image(holes, "BF", STEP_NM, None)
    assert f"{3 * SCAN[1]} positions without a frame" in drawing.alt
    assert image_axes(drawing.figure).images[0].get_array().mask[-1].all()
    assert as_picture(drawing).data.startswith(b"\x89PNG")


def test_maps_of_nothing_recorded_still_draw():
    nothing = np.full((8, 8), np.nan)
    for drawing in (
        maps.virtual_image(nothing, "BF", STEP_NM, None),
        maps.com_component(nothing, "x", STEP_NM, maps.com_limit_mrad(nothing, nothing)),
        maps.com_direction(nothing, nothing, STEP_NM, 1.0),
    ):
        assert as_picture(drawing).data
        assert "nan" not in drawing.alt


def test_com_components_share_a_symmetric_scale_in_mrad(crystal: Crystal):
    limit = maps.com_limit_mrad(crystal.com_y_mrad, crystal.com_x_mrad)
    for axis, values in (("y", crystal.com_y_mrad), ("x", crystal.com_x_mrad)):
        drawing = maps.com_component(values, axis, STEP_NM, limit)
        shown = image_axes(drawing.figure).images[0]
        assert shown.get_clim() == (-limit, limit)
        assert bar_label(drawing.figure) == "mrad"
        assert image_axes(drawing.figure).get_title(loc="left") == f"Centre of mass, {axis} component [mrad]"


def test_com_direction_has_a_wheel_with_its_magnitude(crystal: Crystal):
    drawing = maps.com_direction(crystal.com_y_mrad, crystal.com_x_mrad, STEP_NM, 1.0)
    wheel = next(axes for axes in drawing.figure.axes if axes.get_label() == "wheel")
    assert [text.get_text() for text in wheel.texts] == ["rim:\n1 mrad"]
    assert wheel.get_title() == "direction"


def test_wheel_and_map_give_one_direction_one_colour():
    wheel = colour_wheel(101)
    right, down = wheel[50, 99, :3], wheel[99, 50, :3]
    assert np.allclose(right, direction_colours(np.array([[0.0]]), np.array([[0.98]]), 1.0)[0, 0])
    assert np.allclose(down, direction_colours(np.array([[0.98]]), np.array([[0.0]]), 1.0)[0, 0])
    assert np.abs(right - down).max() > 0.2
    assert wheel[50, 50, :3].max() == 0
    assert wheel[0, 0, 3] == 0


def test_disk_positions_state_movement_and_offset(crystal: Crystal):
    drawing = motion.disk_positions(crystal.disk_px, MRAD_PER_PIXEL, state="as recorded", limit_px=1.0)
    axes = image_axes(drawing.figure)
    assert axes.get_title(loc="left") == "Disk position, as recorded [px]"
    assert axes.get_xlabel() == "x [px], 1 px = 1.1 mrad"
    # 0.3 + 0.7 px along x by construction, less half a block at either end of nine: 0.89 px; noise 0.3/sqrt(190) px.
    assert "moves by 0.8" in drawing.alt or "moves by 0.9" in drawing.alt
    assert "2.5 px from the middle" in drawing.alt
    assert axes.yaxis_inverted()
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {
        "scan position (0, 0)",
        "limit, 1 px across",
        "detector middle",
    }


def test_drift_shows_the_shift_of_each_pass_and_how_it_was_judged():
    offsets_nm = np.array([[0, 0], [np.nan, np.nan], [0.3, 0.4]])
    drawing = motion.drift(offsets_nm, np.array([1, 2, 3]), rate_nm_per_min=1.2, limit_nm_per_min=0.3)
    axes = image_axes(drawing.figure)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("pass", "shift since pass 1 [nm]")
    assert "rate 1.2\u00a0nm/min, limit 0.3\u00a0nm/min" in [t.get_text() for t in drawing.figure.texts]
    assert legend_texts(drawing.figure) == ["distance", "x", "y"]
    assert "By pass 3 the specimen moved by 0.5\u00a0nm" in drawing.alt
    assert "rate not measured" in motion.drift(offsets_nm, np.array([1, 2, 3])).alt


def test_dose_bar_holds_what_was_delivered_against_the_budget():
    drawing = bars.dose_bar(1200, 5400, 1e4, "lamella-1")
    axes = image_axes(drawing.figure)
    assert axes.get_title(loc="left") == "Dose of area lamella-1 [e⁻/Å²]"
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 1200), (1200, 5400)]
    assert axes.lines[0].get_xdata()[0] == 1e4
    assert "66 % of the budget" in drawing.alt


def test_time_line_names_every_target_and_its_state():
    spans = (bars.Span("overview", "done", 0, 60), bars.Span("refused-one", "refused", 60, 60))
    drawing = bars.time_line(spans)
    labels = [label.get_text() for label in image_axes(drawing.figure).get_yticklabels()]
    assert labels == ["overview\ndone", "refused-one\nrefused"]
    assert "refused-one, refused" in drawing.alt


@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (4, 2), (1, 1)])
def test_scans_of_any_shape_can_be_drawn(shape):
    rng = np.random.default_rng(3)
    drawing = maps.virtual_image(rng.poisson(50, shape).astype(float), "BF", 0.5, None)
    assert as_picture(drawing).height_px < 500
    slim = shape in ((1, 400), (400, 1))
    assert slim == (not any(isinstance(artist, AnchoredSizeBar) for artist in image_axes(drawing.figure).artists))
    assert slim == ("scale bar" not in drawing.alt)


def test_many_detectors_with_long_names_keep_the_picture_in_bounds(crystal: Crystal):
    one = crystal.geometry.detectors[1]
    many = tuple(
        one.model_copy(update={"name": f"detector-{i}-" + "x" * 40, "outer_mrad": 30.0 + i}) for i in range(16)
    )
    drawing = patterns.mean_pattern(crystal.mean, replace(crystal.geometry, detectors=many))
    drawing.figure.draw_without_rendering()
    assert image_axes(drawing.figure).get_position().y0 > drawing.figure.legends[0].get_window_extent().y1 / (
        drawing.figure.bbox.height
    )


def test_pictures_are_sharp_and_the_same_each_time(crystal: Crystal):
    first, second = (as_picture(patterns.mean_pattern(crystal.mean, crystal.geometry)) for _ in range(2))
    assert first == second
    assert Image.open(BytesIO(first.data)).width == 2 * first.width_px


def test_clip_range_cuts_outliers_and_says_so():
    values = np.linspace(0, 1, 10001)
    values[0] = -1e6
    low, high, cut = clip_range(values)
    assert low == pytest.approx(0.002, abs=1e-3)
    assert high == pytest.approx(0.998, abs=1e-3)
    assert cut == "both"
    assert clip_range(np.full(5, 3.0)) == (2.5, 3.5, "neither")


def test_calibrated_steps_that_differ_set_the_field_and_the_shape_of_the_picture(crystal: Crystal):
    drawing = maps.virtual_image(crystal.dark, "ADF", (0.05, 0.04), None)
    axes = image_axes(drawing.figure)
    left, right, bottom, top = axes.images[0].get_extent()
    assert (right - left, bottom - top) == pytest.approx((SCAN[1] * 0.04, SCAN[0] * 0.05))
    box = axes.get_window_extent()
    assert box.width / box.height == pytest.approx(SCAN[1] * 0.04 / (SCAN[0] * 0.05), rel=1e-6)
    assert "6.4 nm across and 4.8 nm down" in drawing.alt


def test_what_is_nominal_in_a_pattern_says_so_and_masked_pixels_are_in_the_legend(crystal: Crystal):
    invalid = np.zeros(crystal.mean.shape, bool)
    invalid[3, 4] = invalid[50, 51] = True
    nominal = replace(crystal.geometry, nominal=("angle", "convergence"))
    drawing = patterns.mean_pattern(crystal.mean, nominal, invalid)
    assert image_axes(drawing.figure).get_xlabel() == "angle x [mrad], nominal"
    assert legend_texts(drawing.figure)[0] == "disk, 18 mrad (nominal)"
    assert legend_texts(drawing.figure)[-1] == "2 bad pixels, left out"
    moved = motion.disk_positions(crystal.disk_px, MRAD_PER_PIXEL, state="as recorded", nominal=True)
    assert image_axes(moved.figure).get_xlabel() == "x [px], 1 px = 1.1 mrad (nominal)"


def test_a_hot_pixel_that_no_mask_knows_does_not_make_the_mean_pattern_black(crystal: Crystal):
    hot = crystal.mean.copy()
    hot[3, 4] = 1e6
    shown = image_axes(patterns.mean_pattern(hot, crystal.geometry).figure).images[0]
    # One pixel of 9216 is not the brightest of a thousand.
    assert shown.norm.vmax == pytest.approx(float(np.percentile(crystal.mean, 99.9)), rel=0.01)


@pytest.mark.parametrize("size", [1.5e-4, 1.5e-3, 0.015, 1.5, 1.5e4, 1.5e7])
def test_no_label_of_a_map_runs_off_its_sheet(size: float):
    values = np.random.default_rng(0).normal(0.0, size / 3, (20, 20))
    title = "Strain along y, of the lattice as it lies"
    figure = outcome_map(Picture("eyy", title, values, "", "signed", (0.5, 0.5), np.abs(values) / 10)).figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [axes.get_tightbbox(canvas.get_renderer()) for axes in figure.axes]
    assert max(box.x1 for box in boxes) <= figure.bbox.width
    assert max(box.y1 for box in boxes) <= figure.bbox.height
