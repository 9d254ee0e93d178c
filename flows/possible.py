"""Whether an instrument can do what a plan asks of it, by its facts alone: said before anything is asked or opened."""

from math import isclose

from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFacts
from stem4d.plan import Plan
from stem4d.rules import RULES, check


def refuse_impossible(file: str, plan: Plan, facts: InstrumentFacts) -> None:
    """Refuse a plan that an instrument's facts rule out; ``file`` is the plan's, for the message.

    Raises
    ------
    BadInput
        Where a rule about the instrument fails hard, or the column has no such camera length, energy or aperture.
    """
    of_instrument = {rule.id for rule in RULES.values() if rule.needs == "instrument"}
    impossible = [one for one in check(plan, instrument=facts).hard if one.rule in of_instrument]
    if impossible:
        told = " ".join(one.message for one in impossible)
        rules = ", ".join(one.rule for one in impossible)
        raise BadInput(
            field=file, value=rules, limit=f"the instrument cannot do it: {told}", remedy=impossible[0].remedy
        )
    optics = plan.optics
    angles = tuple(each.convergence_semi_angle_mrad for each in facts.apertures)
    for name, value, listed, unit in (
        ("camera_length_mm", optics.camera_length_mm, facts.camera_lengths_mm, "mm"),
        ("beam_energy_kev", optics.beam_energy_kev, facts.beam_energies_kev, "keV"),
        ("convergence_semi_angle_mrad", optics.convergence_semi_angle_mrad, angles, "mrad"),
    ):
        # The rules bear a rounded figure; a column is told one that it has.
        if not any(isclose(value, each, rel_tol=1e-6) for each in listed):
            near = min(listed, key=lambda each: abs(each - value))
            raise BadInput(
                field=f"{file}: optics.{name}",
                value=value,
                limit=f"has to be one of {', '.join(f'{each:g}' for each in listed)}",
                unit=unit,
                remedy=f"Did you mean {near:g}?",
            )
