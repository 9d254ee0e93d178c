"""The plan check: every rule asked, every answer put into words, one verdict."""

from collections.abc import Iterator, Mapping

from stem4d.instrument import InstrumentFacts
from stem4d.model import Strict
from stem4d.plan import Plan
from stem4d.predict import Prediction
from stem4d.rules.advice import finding
from stem4d.rules.conflict import with_conflicts
from stem4d.rules.instrument import AXIS
from stem4d.rules.limits import CALIBRATION_NEEDS, LIMITS, NEED_IN_WORDS, RESERVE_BYTES, Limit, calibrations_of
from stem4d.rules.registry import RULES, Calibrated, Context, Need, ask_all
from stem4d.verdict import Finding, Verdict, worst


class PlanCheck(Strict):
    """What the rules say of a plan. ``hard`` and ``soft`` are those of the findings that fail and that warn."""

    findings: tuple[Finding, ...]
    prediction: Prediction
    verdict: Verdict
    hard: tuple[Finding, ...]
    soft: tuple[Finding, ...]


def check(
    plan: Plan,
    instrument: InstrumentFacts | None = None,
    calibrations: Mapping[str, Calibrated] | None = None,
    free_bytes: int | None = None,
    *,
    limits: Mapping[str, Limit] = LIMITS,
    spent_e_per_a2: float | None = None,
    reserve_bytes: float = RESERVE_BYTES.value,
) -> PlanCheck:
    """Ask every rule about a plan.

    Parameters
    ----------
    plan : Plan
        What is to be done.
    instrument : InstrumentFacts, optional
        What the instrument is and can do.
    calibrations : mapping of str to Calibrated, optional
        Calibrations that are valid now for the plan's optics, by kind: ``centre``, ``mrad_per_pixel`` [mrad],
        ``ellipticity`` [ratio - 1], ``rotation`` [deg], ``descan`` (residual movement, peak to peak) [px],
        ``scan_step`` [nm], ``defocus`` [nm], ``convergence_semi_angle`` (the aligned one) [mrad], ``crest``
        (peak over mean in the disk), ``current_ratio`` (true over commanded current).
    free_bytes : int, optional
        Room for the data.
    limits : mapping of str to Limit
        The limits to hold the plan against.
    spent_e_per_a2 : float, optional
        What the area has had already from other targets, surveys and focusing [e/Å²].
    reserve_bytes : float
        What of that room an acquisition leaves free: the setting ``disk_reserve_gb``, in bytes.

    Returns
    -------
    PlanCheck
        Findings in the order of the axes; what was not given is one ``not_measurable`` finding each.
    """
    ctx = Context(plan, instrument, calibrations, free_bytes, limits, spent_e_per_a2, reserve_bytes)
    answers = ask_all(ctx)
    before = {answer.key: answer.judged for answer in answers}
    asked = [finding(ctx, answer, before) for answer in answers]
    findings = (*with_conflicts(plan, asked), *_not_checked(ctx))
    return PlanCheck(
        findings=findings,
        prediction=ctx.predicted,
        verdict=worst(each.verdict for each in findings),
        hard=tuple(each for each in findings if each.verdict is Verdict.FAIL),
        soft=tuple(each for each in findings if each.verdict is Verdict.WARN),
    )


_ABSENT: tuple[tuple[Need, str, str], ...] = (
    ("instrument", "instrument", "Name an instrument file."),
    ("calibrations", "set of calibrations", "Needed: "),
    ("imaging", "imaging figures", "State sample.imaging: contrast, signal to noise, repeats, detective efficiency."),
    ("free_bytes", "figure of free disk space", "Name the folder that the data will go to."),
)


def _not_checked(ctx: Context) -> Iterator[Finding]:
    kinds = {analysis.kind for analysis in ctx.plan.analyses}
    for need, words, remedy in _ABSENT:
        if ctx.has(need):
            continue
        skipped = [each for each in RULES.values() if each.needs == need and (not each.kinds or kinds & {*each.kinds})]
        if not skipped:
            continue
        numbers = sorted({each.number for each in skipped})
        named = f"rule{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        if need == "calibrations":
            needed = {kind for each in ctx.plan.analyses for kind in calibrations_of(each)}
            wanted = [kind for kind in CALIBRATION_NEEDS if kind in needed]
            remedy += ", ".join(f"{kind} ({NEED_IN_WORDS[CALIBRATION_NEEDS[kind]]})" for kind in wanted) + "."
        yield Finding(
            rule=f"not_checked.{need}",
            axis=AXIS,
            analysis=None,
            verdict=Verdict.NOT_MEASURABLE,
            quantity=words,
            value=None,
            limit=None,
            unit="",
            margin=None,
            message=f"No {words} given: what hangs on it was not checked ({named}).",
            remedy=remedy,
        )
