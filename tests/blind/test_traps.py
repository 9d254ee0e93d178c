"""No silent wrong answer: every trap is refused with a reason, answered rightly, or stated as what no data can tell."""

import pytest

from tests.blind.outcomes import Outcome
from tests.blind.traps import Trap, Verdict, all_traps, right, spring

ADVERSARIAL = 179
"""Cases that are neither honest nor stated: none is dropped unseen."""


@pytest.mark.parametrize(
    "trap", [trap for trap in all_traps() if trap.quick], ids=lambda trap: f"{trap.estimator}: {trap.name}"
)
def test_quick_traps_are_refused_or_answered_rightly(trap: Trap) -> None:
    (verdict,) = spring([trap])
    assert not verdict.wrong, str(verdict)
    honest = "honest" in trap.name
    assert honest == (not verdict.refused), str(verdict)


def test_a_wrong_answer_is_called_wrong() -> None:
    def verdict(*outcomes: Outcome) -> Verdict:
        return Verdict(Trap("rings", "made up", list), outcomes)

    off = Outcome("scale", "%", "", error=0.7, sigma=0.1, limit=0.2)
    assert verdict(off).wrong == (off,)
    assert "WRONG" in str(verdict(off))
    # A wide sigma excuses an error only as long as the answer is of use.
    assert right(Outcome("scale", "%", "", error=0.7, sigma=0.3, limit=0.2))
    assert not right(Outcome("scale", "%", "", error=0.7, sigma=3.0, limit=0.2))
    assert not right(Outcome("scale", "%", "", sigma=0.1, limit=0.2))
    assert not verdict(Outcome("scale", "%", "", reason="vacuum")).wrong


def adversarial(trap: Trap) -> bool:
    return "honest" not in trap.name and not trap.stated


def test_no_trap_is_dropped_unseen() -> None:
    assert len([trap for trap in all_traps() if adversarial(trap)]) == ADVERSARIAL


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_trap_is_answered_wrongly_in_silence() -> None:
    verdicts = spring(all_traps())
    print("\n" + "\n".join(str(verdict) for verdict in verdicts))
    counted = [verdict for verdict in verdicts if adversarial(verdict.trap)]
    assert not [str(verdict) for verdict in counted if verdict.wrong]
    # The honest cases show that refusing everything is no way to pass.
    honest = [verdict for verdict in verdicts if "honest" in verdict.trap.name]
    assert not [str(verdict) for verdict in honest if verdict.refused or verdict.wrong]
