"""Keys, states and errors of the emulated detector: what a value moves, what is refused, what is answered."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.simplon.emulator import start_emulator
from devices.simplon.emulator.hardware import Hardware
from devices.simplon.emulator.keys import KeyRefused, detector_config
from devices.simplon.emulator.rules import saturation_value
from devices.simplon.emulator.settings import Settings
from devices.simplon.emulator.state import DetectorState
from stem4d.errors import BadInput
from tests.devices.emulator_world import SHAPE, SOURCE, Client, client_of, frame_of, pixels_of

QUADRO = Hardware()


@pytest.fixture
def client() -> Iterator[Client]:
    with client_of() as made:
        made.command("initialize")
        yield made


def test_a_key_says_what_it_takes(client: Client) -> None:
    energy = client.get("incident_energy")
    assert energy == {
        "value": 200e3,
        "value_type": "float",
        "access_mode": "rw",
        "min": 30e3,
        "max": 300e3,
        "unit": "eV",
    }
    assert client.get("trigger_mode")["allowed_values"] == ["ints", "inte", "exts", "exte"]
    assert client.get("threshold/1/energy")["value"] == 100e3
    state = client.get("state", task="status")
    assert (state["value"], state["value_type"], state["state"]) == ("idle", "State", "normal")
    assert {"time", "critical_limits", "critical_values"} <= set(state)


@pytest.mark.parametrize("module", ["detector", "stream", "monitor", "filewriter", "system"])
def test_every_listed_key_answers_and_some_that_are_not_listed(client: Client, module: str) -> None:
    assert client.http.get(f"/{module}/api/version/").json() == {"value": "1.8.0", "value_type": "string"}
    for task in ("config", "status"):
        for key in client.get("keys", module, task):
            assert {"value", "value_type", "access_mode"} <= set(client.get(key, module, task))
    if module == "detector":
        assert "wavelength" not in client.get("keys")
        # 2.51 pm at 200 kV, relativistically.
        assert client.get("wavelength")["value"] == pytest.approx(0.02508, abs=1e-5)
        assert "error" not in client.get("keys", task="status")
        assert client.get("error", task="status")["value"] == []


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("detector/api/1.8.0/config/colour", "detector/api/1.8.0/config/colour"),
        ("detector/api/1.8.0/status/colour", "detector/api/1.8.0/status/colour"),
        ("detector/api/1.5.0/config/nimages", "detector/api/1.5.0/config/nimages"),
        ("toaster/api/1.8.0/config/nimages", "toaster/api/1.8.0/config/nimages"),
        ("toaster/api/version/", "toaster/api/version/"),
        ("nothing", "nothing"),
    ],
)
def test_what_is_not_there_is_404_with_its_path(client: Client, path: str, told: str) -> None:
    answer = client.http.get(f"/{path}")
    assert (answer.status_code, answer.text) == (404, f'error during request: path error: unknown path: "{told}"')


def test_unknown_keys_and_commands_cannot_be_written(client: Client) -> None:
    assert client.http.put("/detector/api/1.8.0/config/colour", json={"value": 1}).status_code == 404
    assert client.http.put("/detector/api/1.8.0/command/explode", content="").status_code == 404
    assert client.http.put("/detector/api/1.8.0/status/state", json={"value": "idle"}).status_code == 405


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("nimages", 0, "nimages = 0 is below the minimum 1"),
        ("nimages", -5, "takes a uint"),
        ("nimages", 1.5, "takes a uint"),
        ("nimages", True, "takes a uint"),
        ("ntrigger", 2_000_000_001, "above the maximum"),
        ("count_time", 0.0, "below the minimum 1e-07 s"),
        ("count_time", 1e4, "above the maximum 3600.0 s"),
        ("count_time", "fast", "takes a float"),
        ("frame_time", 1e-5, "below the minimum"),
        ("trigger_mode", "sometimes", "allowed are ints"),
        ("roi_bit_depth", 12, "allowed are 8, 16"),
        ("roi_y_size", 7, "has to be even"),
        ("auto_summation", 1, "takes a bool"),
        ("description", "mine", "read-only"),
        ("bit_depth_image", 8, "read-only"),
        ("pixel_mask", {"shape": [2, 2]}, "bad array"),
        ("pixel_mask", [[0]], "takes a uint"),
    ],
)
def test_values_out_of_range_are_400_with_a_text_and_change_nothing(
    client: Client, key: str, value: Any, complaint: str
) -> None:
    before = client.get(key)
    answer = client.http.put(f"/detector/api/1.8.0/config/{key}", json={"value": value})
    assert answer.status_code == 400
    assert complaint in answer.text
    assert client.get(key) == before


@pytest.mark.parametrize("body", ["", "3", "{", '{"val": 3}', '{"value": NaN}', "[" * 100_000])
def test_bodies_that_say_no_value_are_400(client: Client, body: str) -> None:
    assert client.http.put("/detector/api/1.8.0/config/nimages", content=body).status_code == 400


def test_put_answers_what_has_to_be_read_again(client: Client) -> None:
    assert client.put("nimages", 3) == ["nimages"]
    assert client.put("count_time", 2e-3) == [
        "bit_depth_image",
        "bit_depth_readout",
        "count_time",
        "countrate_correction_count_cutoff",
        "frame_count_time",
        "frame_time",
    ]
    assert client.get("frame_time")["value"] == pytest.approx(2e-3 + 1e-7, abs=1e-12)
    assert client.put("mode", "enabled", "stream") == ["mode"]


def test_many_keys_are_written_at_once_or_none_of_them(client: Client) -> None:
    path = "/detector/api/1.8.0/config"
    answer = client.http.put(path, json={"nimages": {"value": 4}, "trigger_mode": {"value": "exts"}})
    assert answer.json() == ["nimages", "trigger_mode"]
    assert client.get("nimages")["value"] == 4
    assert client.http.put(path, json={"nimages": {"value": 5}, "ntrigger": {"value": 0}}).status_code == 400
    assert client.http.put(path, json={"nimages": {"value": 5}, "colour": {"value": 0}}).status_code == 404
    assert client.http.put(path, json={"nimages": 5}).status_code == 400
    assert client.get("nimages")["value"] == 4


def test_the_times_of_a_rate_are_written_as_clients_do() -> None:
    settings = Settings(QUADRO)
    settings.write("detector", {"roi_bit_depth": 8})
    settings.write("detector", {"count_time": 1 / 4500})
    settings.write("detector", {"frame_time": 1 / 4500})
    values = settings.values["detector"]
    assert values["frame_time"] == 1 / 4500
    assert values["count_time"] == pytest.approx(1 / 4500 - 1e-7, abs=1e-12)
    with pytest.raises(KeyRefused, match="below the minimum"):
        settings.write("detector", {"frame_time": 1 / 4501})
    # 16 bit reads out half as fast, so the same time is not possible any more.
    settings.write("detector", {"roi_bit_depth": 16})
    assert settings.values["detector"]["frame_time"] == 1 / 2250


def test_rules_of_depth_energy_and_gates() -> None:
    settings = Settings(QUADRO)

    def after(**written: Any) -> dict[str, Any]:
        settings.write("detector", written)
        return settings.values["detector"]

    # 3.825e6 /s linear: 3825 counts at 1 ms, and a counter of 16 bit lasts 17 ms.
    assert after(count_time=1e-3)["countrate_correction_count_cutoff"] == 3825
    assert saturation_value(after(count_time=1e-3)) == 3825
    assert saturation_value(after(countrate_correction_applied=False)) == 65534
    assert after(count_time=0.018)["bit_depth_image"] == 32
    assert after(auto_summation=False)["bit_depth_image"] == 16
    assert after(roi_bit_depth=8)["bit_depth_image"] == 8
    assert saturation_value(settings.values["detector"]) == 254
    assert after(incident_energy=80e3)["threshold/1/energy"] == after()["threshold_energy"] == 40e3
    assert after(threshold_energy=20e3)["threshold/1/energy"] == 20e3
    assert after(nimages=7, trigger_mode="exte")["nimages"] == 1
    with pytest.raises(KeyRefused, match="only 1"):
        after(nimages=2)


def test_a_region_of_interest_resets_times_and_is_faster() -> None:
    settings = Settings(QUADRO)
    settings.write("detector", {"count_time": 0.5})
    settings.write("detector", {"roi_mode": "lines", "roi_y_size": 128})
    values = settings.values["detector"]
    assert (values["y_pixels_in_detector"], values["x_pixels_in_detector"]) == (128, 512)
    assert values["count_time"] == 1e-3
    settings.write("detector", {"frame_time": 1 / 9000})
    settings.write("detector", {"roi_mode": "merge2x2"})
    values = settings.values["detector"]
    assert (values["y_pixels_in_detector"], values["x_pixels_in_detector"]) == (256, 256)
    assert values["frame_time"] > 1e-3


WRITABLE = {
    name: key for name, key in detector_config(QUADRO).items() if key.access_mode == "rw" and name != "pixel_mask"
}


def value_for(name: str) -> st.SearchStrategy[Any]:
    key = WRITABLE[name]
    if key.allowed_values:
        return st.sampled_from(key.allowed_values)
    if key.value_type == "bool":
        return st.booleans()
    low, high = key.min, key.max
    if key.value_type == "uint":
        assert low is not None
        assert high is not None
        return st.integers(int(low), int(high))
    if key.value_type == "float":
        return st.floats(low, high, allow_nan=False, allow_infinity=False)
    return st.text(max_size=5)


@given(
    st.lists(
        st.sampled_from(sorted(WRITABLE)).flatmap(lambda name: st.tuples(st.just(name), value_for(name))), max_size=12
    )
)
def test_whatever_is_written_is_consistent_and_all_that_moved_is_told(written: list[tuple[str, Any]]) -> None:
    settings = Settings(QUADRO)
    for name, value in written:
        before = dict(settings.values["detector"])
        try:
            changed = settings.write("detector", {name: value})
        except KeyRefused:
            assert settings.values["detector"] == before
            continue
        after = settings.values["detector"]
        assert {key for key in after if after[key] != before[key]} <= set(changed)
        assert name in changed
        # One rounding of a sum of two floats.
        assert after["frame_time"] >= (after["count_time"] + QUADRO.readout_time_s) * (1 - 1e-15)
        assert after["count_time"] > 0
        assert after["bit_depth_image"] >= after["bit_depth_readout"] == after["roi_bit_depth"]
        assert 0 <= saturation_value(after) <= 2 ** after["bit_depth_image"] - 2
        assert after["nimages"] == 1 or after["trigger_mode"] in ("ints", "exts")


def darray(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    data = base64.b64encode(pixels.tobytes()).decode()
    return {"shape": list(pixels.shape[::-1]), "type": pixels.dtype.str, "filters": ["base64"], "data": data}


def test_a_mask_is_read_back_and_its_pixels_are_full_or_nothing(client: Client) -> None:
    mask = np.zeros(SHAPE, "<u4")
    mask[2, 5] = mask[3, 30] = 1
    client.ready()
    assert client.put("pixel_mask", darray(mask)) == ["number_of_excluded_pixels", "pixel_mask"]
    assert client.get("number_of_excluded_pixels")["value"] == 2
    told = client.get("pixel_mask")["value"]
    assert (told["shape"], told["type"]) == ([32, 24], "<u4")
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(told["data"]), "<u4").reshape(SHAPE), mask)
    wrong = client.http.put("/detector/api/1.8.0/config/pixel_mask", json={"value": darray(mask.T)})
    assert (wrong.status_code, "x first" in wrong.text) == (400, True)
    for zero, shown in ((False, 65535), (True, 0)):
        client.put("mask_to_zero", zero)
        client.command("arm")
        client.command("trigger")
        pixels = pixels_of(frame_of(client.until_end()[1]))
        np.testing.assert_array_equal(pixels, np.where(mask, shown, SOURCE.counts(0)))


def refused(client: Client, path: str, value: Any = None) -> str:
    answer = client.http.put(f"/detector/api/1.8.0/{path}", json={"value": value})
    assert answer.status_code == 400
    return answer.text


def test_commands_are_refused_in_states_that_do_not_allow_them() -> None:
    with client_of() as client:
        assert client.state() == "na"
        assert "arm is not possible in state na" in refused(client, "command/arm")
        assert "disarm is not possible in state na" in refused(client, "command/disarm")
        client.command("initialize")
        assert "trigger is not possible in state idle" in refused(client, "command/trigger")
        assert client.command("disarm") == {"sequence id": 0}
        client.command("arm")
        assert "arm is not possible in state ready" in refused(client, "command/arm")
        assert "not configurable in state ready" in refused(client, "config/nimages", 2)
        assert client.put("mode", "enabled", "stream") == ["mode"]  # for the next series
        assert "inte only" in refused(client, "command/trigger", 0.1)
        client.command("disarm")
        client.put("trigger_mode", "inte")
        client.command("arm")
        assert "above the maximum" in refused(client, "command/trigger", 1e6)
        client.http.put("/detector/api/1.8.0/command/trigger", json={"value": 0.1}).raise_for_status()
        assert client.state() == "idle"


def test_a_restart_leaves_nothing_as_it_was(client: Client) -> None:
    client.ready(nimages=9)
    client.command("arm")
    client.command("restart", "system")
    assert client.state() == "na"
    assert client.get("nimages")["value"] == 1
    assert client.get("mode", "stream")["value"] == "disabled"


def test_a_source_has_to_fit_the_detector() -> None:
    with pytest.raises(BadInput, match="512 x 512"), start_emulator(source=SOURCE, made=QUADRO):
        pass


def test_a_state_needs_no_sockets() -> None:
    state = DetectorState(QUADRO)
    state.command("detector", "initialize")
    state.command("detector", "arm")
    series = state.jobs.get()
    assert series is not None
    assert series.images == 1
    assert json.loads(json.dumps(dict(series.config)))["nimages"] == 1
