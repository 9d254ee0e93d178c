"""What the instrument offers a goal: combinations of energy, aperture, camera length and detector, as bare plans."""

from collections.abc import Iterator
from difflib import get_close_matches

from stem4d import optics
from stem4d.detector import DetectorFacts
from stem4d.errors import BadInput
from stem4d.goal import Goal
from stem4d.instrument import InstrumentFacts
from stem4d.plan import DetectorSetup, Exposure, Optics, Plan, Scan

COUNTER_BITS = 12
"""A counter this deep is taken first: it holds what a pixel of a disk gets, in two bytes."""


def detectors(goal: Goal, instrument: InstrumentFacts) -> tuple[DetectorFacts, ...]:
    """The detectors the goal leaves open.

    Raises
    ------
    BadInput
        Where the goal names one that the instrument has not.
    """
    if goal.detector is None:
        return instrument.all_detectors
    named = tuple(each for each in instrument.all_detectors if each.name == goal.detector)
    if not named:
        names = [each.name for each in instrument.all_detectors]
        close = get_close_matches(goal.detector, names, n=1, cutoff=0.0)
        raise BadInput(
            field="detector",
            value=goal.detector,
            limit="the instrument has " + ", ".join(names),
            remedy=f"Did you mean {close[0]}?" if close else "",
        )
    return named


def energies_kev(goal: Goal, instrument: InstrumentFacts) -> tuple[float, ...]:
    """The beam energies the goal leaves open.

    Raises
    ------
    BadInput
        Where the goal names one that the instrument has not.
    """
    listed = instrument.beam_energies_kev
    if goal.beam_energy_kev is None:
        return listed
    named = tuple(each for each in listed if abs(each - goal.beam_energy_kev) <= 1e-3 * each)
    if not named:
        nearest = min(listed, key=lambda each: abs(each - (goal.beam_energy_kev or 0.0)))
        raise BadInput(
            field="beam_energy_kev",
            value=goal.beam_energy_kev,
            limit="the instrument has " + ", ".join(f"{each:g}" for each in sorted(listed)),
            unit="keV",
            remedy=f"The nearest is {nearest:g}",
        )
    return named


def shortest_dwell_us(facts: DetectorFacts, instrument: InstrumentFacts) -> float:
    """The shortest dwell that scan generator and detector both do [µs]."""
    return max(instrument.dwell_time_us.lowest, 1.0005e6 / facts.max_frame_rate_hz)


def benches(goal: Goal, instrument: InstrumentFacts) -> Iterator[Plan]:
    """A plan for each combination, in focus, with a step and a current that are not meant yet.

    Those that cannot keep the disk on the detector and do not look beyond it either are left out.
    """
    for facts in detectors(goal, instrument):
        dwell_us = shortest_dwell_us(facts, instrument)
        depth = min((bits for bits in facts.bit_depths if bits >= COUNTER_BITS), default=max(facts.bit_depths))
        setup = DetectorSetup(name=facts.name, shape=facts.shape, pixel_pitch_um=facts.pixel_pitch_um, bit_depth=depth)
        for energy in energies_kev(goal, instrument):
            for aperture in instrument.apertures:
                for length in instrument.camera_lengths_mm:
                    alpha = aperture.convergence_semi_angle_mrad
                    if alpha >= optics.max_angle_mrad(
                        min(facts.shape), optics.mrad_per_pixel(facts.pixel_pitch_um, length)
                    ):
                        continue
                    yield Plan(
                        format_version=1,
                        name=goal.name,
                        title=goal.title,
                        sample=goal.sample,
                        analyses=goal.analyses,
                        optics=Optics(
                            beam_energy_kev=energy,
                            convergence_semi_angle_mrad=alpha,
                            probe_current_pa=instrument.probe_current_pa.lowest,
                            camera_length_mm=length,
                        ),
                        scan=Scan(shape=(1, 1), step_nm=1.0, required_field_nm=goal.field_nm),
                        exposure=Exposure(
                            dwell_time_us=dwell_us,
                            exposure_time_us=dwell_us - facts.dead_time_us if facts.dead_time_us > 0 else None,
                        ),
                        detector=setup,
                    )
