"""Mode keys: the same settings give the same text, another setting another one, and a key can be read."""

from pathlib import Path

import pytest

from stem4d.instrument import InstrumentFile
from stem4d.mode import mode_key, mode_settings
from stem4d.plan import Plan
from storage.documents import load_model

PLANS = Path(__file__).parents[2] / "plans"
NAMES = ("beam_energy_kev", "camera_length_mm", "field_nm", "projector_mode")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_model(PLANS / "demo" / "1_overview.yaml", Plan)


def test_a_key_can_be_read(plan: Plan) -> None:
    assert mode_key(mode_settings(plan), NAMES) == "beam_energy_kev=200; camera_length_mm=106.4; field_nm=(2.56, 2.56)"


def test_the_rounding_of_arithmetic_is_no_other_mode(plan: Plan) -> None:
    same_scan = plan.scan.model_copy(update={"step_nm": 0.04 * (1 + 1e-12)})
    same = plan.model_copy(update={"scan": same_scan})
    assert same.scan.field_nm != plan.scan.field_nm
    assert mode_key(mode_settings(same), NAMES) == mode_key(mode_settings(plan), NAMES)


def test_minus_nought_is_nought() -> None:
    assert mode_key({"a": -0.0, "b": (0.0, -0.0)}, ("a", "b")) == "a=0; b=(0, 0)"


def test_what_only_the_column_knows_is_in_the_key_where_it_tells(plan: Plan) -> None:
    facts = load_model(PLANS / "instruments" / "demo.toml", InstrumentFile).facts
    settings = mode_settings(plan, facts, {"projector_mode": "LACBED; x=1", "temperature": 20.0})
    # A text cannot forge another setting.
    assert mode_key(settings, NAMES).endswith("; projector_mode=LACBED, x:1")
    assert (settings["aperture"], settings["spot"]) == ("C2-50", "spot-9")
    assert "temperature" not in settings
