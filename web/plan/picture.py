"""Draws a plan: probe and step to scale, the detector with all that lies on it, the dose against its limits."""

from math import cos, floor, log10, pi, sin

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Annulus, Circle, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from stem4d import dose, optics
from stem4d.plan import Orientation, Plan, SensitivityClass, Strain, Virtual
from stem4d.predict import Prediction, predict
from stem4d.rules.limits import CLASS_UPPER_E_PER_A2, LIMITS
from web.report.figures.canvas import INK, TEXT_PT, length_label, round_length_nm
from web.report.text import number

_PROBE, _POSITION, _DISK, _EDGE, _LIMIT = "#1f5fa8", "#0b2a4a", "#b9c4d0", "#6b7280", "#b3261e"
_RINGS = ("#56b4e9", "#e69f00", "#2fa37d", "#e08fc0", "#c7a600", "#ff7f50")
_POSITIONS_DRAWN = 4
"""Positions along each axis that are drawn as probes."""


def plan_figure(plan: Plan) -> Figure:
    """A plan on one sheet, three panels."""
    predicted = predict(plan)
    figure = Figure(figsize=(13.2, 5.6), facecolor="white")
    title = plan.title or plan.name
    figure.suptitle(title, x=0.035, ha="left", fontsize=TEXT_PT + 4, fontweight="bold", color=INK, parse_math=False)
    _probe(figure.add_axes((0.035, 0.2, 0.26, 0.63)), plan, predicted)
    _detector(figure.add_axes((0.37, 0.22, 0.26, 0.61)), plan, predicted)
    _dose(figure.add_axes((0.73, 0.4, 0.25, 0.34)), plan, predicted)
    return figure


def _dressed(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=TEXT_PT + 1, fontweight="bold", color=INK, parse_math=False)
    axes.tick_params(labelsize=TEXT_PT - 1, colors=INK, width=0.6, length=3)
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=INK)


def _probe(axes: Axes, plan: Plan, predicted: Prediction) -> None:
    """Neighbouring probes as circles of the probe's diameter."""
    step_nm, diameter_nm = plan.scan.step_nm, predicted.probe_diameter_a / 10
    rows, columns = (min(_POSITIONS_DRAWN, positions) for positions in plan.scan.shape)
    side = max(_POSITIONS_DRAWN - 1, 1) * step_nm + 1.25 * diameter_nm
    middle_y, middle_x = (rows - 1) / 2 * step_nm, (columns - 1) / 2 * step_nm
    for row in range(rows):
        for column in range(columns):
            at = column * step_nm, row * step_nm
            axes.add_patch(Circle(at, diameter_nm / 2, facecolor=_PROBE, alpha=0.14, linewidth=0))
            axes.add_patch(Circle(at, diameter_nm / 2, fill=False, edgecolor=_PROBE, linewidth=0.9))
            axes.plot(*at, marker="+", color=_POSITION, markersize=5)
    axes.set_xlim(middle_x - side / 2, middle_x + side / 2)
    axes.set_ylim(middle_y + side / 2, middle_y - side / 2)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    bar = round_length_nm(side)
    left, foot = middle_x - 0.46 * side, middle_y + 0.45 * side
    axes.plot([left, left + bar], [foot, foot], color=INK, linewidth=3, solid_capstyle="butt")
    axes.text(left + bar / 2, foot - 0.02 * side, length_label(bar), ha="center", va="bottom", fontsize=TEXT_PT)
    overlap = 100 * predicted.linear_overlap
    said = f"linear overlap {number(overlap, 3)} %" if overlap > 0 else "the probes do not touch"
    _dressed(axes, "Probe and step, to scale")
    axes.set_xlabel(
        f"probe {_length(diameter_nm)}, step {_length(step_nm)}: {said}\n"
        f"{plan.scan.shape[0]} x {plan.scan.shape[1]} positions, field "
        f"{number(plan.scan.field_nm[0], 3)} x {number(plan.scan.field_nm[1], 3)} nm{_required(plan)}",
        fontsize=TEXT_PT,
        color=INK,
    )


def _length(nm: float) -> str:
    return f"{number(nm * 10, 3)} Å" if nm < 10 else f"{number(nm, 3)} nm"


def _required(plan: Plan) -> str:
    required = plan.scan.required_field_nm
    return "" if required is None else f" ({number(required[0], 3)} x {number(required[1], 3)} nm asked)"


def _detector(axes: Axes, plan: Plan, predicted: Prediction) -> None:
    """The array in mrad around the pattern's centre, with everything that has to lie on it."""
    delta, alpha = plan.mrad_per_pixel, plan.optics.convergence_semi_angle_mrad
    (height, width), (off_y, off_x) = plan.detector.shape, plan.detector.pattern_offset_px
    left, top = (-width / 2 - off_x) * delta, (-height / 2 - off_y) * delta
    axes.add_patch(
        Rectangle((left, top), width * delta, height * delta, facecolor="#f4f6f8", edgecolor=INK, linewidth=1.2)
    )
    reach = [abs(left), abs(top), left + width * delta, top + height * delta, alpha]
    rings = [each for wanted in plan.analyses if isinstance(wanted, Virtual) for each in wanted.detectors]
    for index, ring in enumerate(rings):
        colour = _RINGS[index % len(_RINGS)]
        wide = ring.outer_mrad - ring.inner_mrad
        label = f"{ring.name}, {ring.inner_mrad:g} to {ring.outer_mrad:g} mrad"
        # An annulus of no inner radius is a disk, which Annulus refuses.
        patch = (
            Annulus((0, 0), ring.outer_mrad, wide, facecolor=colour, alpha=0.35, label=label)
            if ring.inner_mrad > 0
            else Circle((0, 0), ring.outer_mrad, facecolor=colour, alpha=0.35, label=label)
        )
        axes.add_patch(patch)
        reach.append(ring.outer_mrad)
    axes.add_patch(
        Circle((0, 0), alpha, facecolor=_DISK, edgecolor=INK, alpha=0.75, label=f"bright-field disk, {alpha:g} mrad")
    )
    if predicted.max_angle_mrad > 0:
        label = f"recorded on all sides, {predicted.max_angle_mrad:.3g} mrad"
        axes.add_patch(
            Circle((0, 0), predicted.max_angle_mrad, fill=False, edgecolor=_EDGE, linestyle="--", label=label)
        )
    for spacing_a in _spacings(plan):
        angle = predicted.wavelength_a / spacing_a * 1e3
        reach.append(angle + alpha)
        for turn in range(6):
            at = angle * cos(turn * pi / 3), angle * sin(turn * pi / 3)
            label = f"reflections of {spacing_a:g} Å" if turn == 0 else ""
            axes.add_patch(Circle(at, alpha, fill=False, edgecolor=_LIMIT, linewidth=1.0, label=label))
    side = 1.06 * max(reach)
    axes.set_xlim(-side, side)
    axes.set_ylim(side, -side)
    axes.set_aspect("equal")
    axes.set_xlabel("angle x [mrad]", fontsize=TEXT_PT, color=INK)
    axes.set_ylabel("angle y [mrad]", fontsize=TEXT_PT, color=INK, labelpad=2)
    _dressed(axes, f"Detector {plan.detector.name}, {height} x {width} px, {delta:.3g} mrad each")
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.13), fontsize=TEXT_PT - 1.5, frameon=False, ncols=2, labelcolor=INK
    )


def _spacings(plan: Plan) -> list[float]:
    found = {each.reflection_d_a for each in plan.analyses if isinstance(each, Strain | Orientation)}
    return sorted(found, reverse=True)


def _dose(axes: Axes, plan: Plan, predicted: Prediction) -> None:
    """The fluence of all passes, on a logarithmic scale, against every limit it has."""
    total, passes = predicted.total_fluence_e_per_a2, plan.exposure.passes
    kind = plan.sample.sensitivity
    lines = [
        ("budget", plan.sample.fluence_budget_e_per_a2, _LIMIT, "-"),
        (
            f"half the upper figure of {kind.value.replace('_', ' ')}",
            CLASS_UPPER_E_PER_A2[kind].value * (LIMITS["fluence_class"].soft or 1.0),
            "#b7791f",
            "--",
        ),
    ]
    periods = [d_a for each in plan.analyses if (d_a := getattr(each, "target_d_a", None)) is not None]
    if kind is SensitivityClass.VITRIFIED and periods:
        critical = dose.critical_exposure_e_per_a2(min(periods), plan.optics.beam_energy_kev)
        best = critical * (LIMITS["optimum_exposure"].soft or 1.0) * passes
        lines.append((f"optimum for {min(periods):g} Å in {passes} pass(es)", best, "#2fa37d", ":"))
    colour = _PROBE if total <= plan.sample.fluence_budget_e_per_a2 * 1.01 else _LIMIT
    values = [total, *(value for _, value, _, _ in lines)]
    low, high = (10.0 ** (floor(log10(edge)) + lift) for edge, lift in ((min(values), -1), (max(values), 1)))
    axes.barh(0, total - low, left=low, color=colour, height=0.5, label=f"this plan, {number(total, 3)}")
    for name, value, line_colour, style in lines:
        axes.axvline(value, color=line_colour, linestyle=style, linewidth=1.8, label=f"{name}, {number(value, 3)}")
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(-0.6, 0.6)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: number(tick)))
    axes.set_xlabel("highest fluence of all passes [e⁻/Å²]", fontsize=TEXT_PT, color=INK)
    _dressed(axes, "Dose")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.3), fontsize=TEXT_PT - 1, frameon=False, labelcolor=INK)
    depth = optics.depth_of_field_a(plan.optics.beam_energy_kev, plan.optics.convergence_semi_angle_mrad) / 10
    axes.text(
        0.0,
        1.22,
        f"{number(predicted.electrons_per_pattern, 3)} electrons a pattern, depth of field {number(depth, 3)} nm,\n"
        f"{number(predicted.total_time_s, 3)} s in all",
        transform=axes.transAxes,
        fontsize=TEXT_PT,
        color=INK,
        va="bottom",
    )
