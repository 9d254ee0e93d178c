"""Every fault of the emulated detector is seen on the wire, and the truth record says so."""

import time
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.simplon.emulator import start_emulator
from devices.simplon.emulator.faults import KINDS, Fault, fault_of_text, read_faults
from devices.simplon.emulator.frames import SyntheticFrames
from devices.simplon.messages import End, Image, Message, Start
from stem4d.errors import BadInput
from tests.devices.emulator_world import (
    SHAPE,
    SOURCE,
    Client,
    client_of,
    frame_of,
    pixels_of,
    sent_pixels,
    wait_for,
)

FRAMES = 6
ON_ITS_WAY_MS = 200
"""What a message that was sent may need to arrive, where none is to come [ms]."""


def play(client: Client, *faults: dict[str, Any], frames: int = FRAMES, **config: Any) -> list[Message]:
    """One triggered series with faults set over REST, and all that came."""
    client.http.put("/emulator/faults", json=list(faults)).raise_for_status()
    client.ready(nimages=frames, **config)
    client.command("arm")
    client.command("trigger")
    return client.everything()


def told(messages: list[Message]) -> list[str | int]:
    """A series in short: s, the numbers of its frames, e; frames of another one as stray."""
    series = next(each.series_unique_id for each in messages if isinstance(each, Start))
    names: list[str | int] = []
    for each in messages:
        mine = each.series_unique_id == series
        names.append(
            "s" if isinstance(each, Start) else "e" if isinstance(each, End) else each.image_id if mine else "stray"
        )
    return names


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "drop", "frame": 2, "count": 2}, ["s", 0, 1, 4, 5, "e"]),
        ({"kind": "drop", "frame": 5}, ["s", 0, 1, 2, 3, 4, "e"]),
        ({"kind": "duplicate", "frame": 1}, ["s", 0, 1, 1, 2, 3, 4, 5, "e"]),
        ({"kind": "reorder", "frame": 1, "by": 2}, ["s", 0, 2, 3, 1, 4, 5, "e"]),
        ({"kind": "reorder", "frame": 5, "by": 9}, ["s", 0, 1, 2, 3, 4, 5, "e"]),
        ({"kind": "late_start", "frame": 1}, [0, 1, "s", 2, 3, 4, 5, "e"]),
        ({"kind": "late_start", "frame": 99}, [0, 1, 2, 3, 4, 5, "s", "e"]),
        ({"kind": "stray_series", "count": 2}, ["stray", "stray", "s", 0, 1, 2, 3, 4, 5, "e"]),
        ({"kind": "stray_series", "frame": 3}, ["s", 0, 1, 2, "stray", 3, 4, 5, "e"]),
        ({"kind": "no_end"}, ["s", 0, 1, 2, 3, 4, 5]),
        ({"kind": "overrun", "count": 2}, ["s", 0, 1, 2, 3, 4, 5, 6, 7, "e"]),
    ],
)
def test_what_comes_and_in_which_order(fault: dict[str, Any], expected: list[str | int]) -> None:
    with client_of() as client:
        messages = play(client, fault)
        assert told(messages) == expected
        truth = client.finished()
        assert truth.order == [name for name in expected if isinstance(name, int)]
        assert (truth.starts, truth.ends, truth.strays) == tuple(expected.count(name) for name in ("s", "e", "stray"))
        hit = {number for number, each in truth.frames.items() if each.damage}
        first = fault.get("frame", 0)
        frame_fault = fault["kind"] in ("drop", "duplicate", "reorder")
        assert hit == (set(range(first, first + fault.get("count", 1))) if frame_fault else set())
        # And nothing but that is left when it is taken away.
        assert told(play(client)) == ["s", *range(FRAMES), "e"]


def test_a_corrupt_frame_differs_in_the_bit_that_was_named() -> None:
    with client_of() as client:
        clean = frame_of(play(client)[3])
        flipped = frame_of(play(client, {"kind": "corrupt", "frame": 2, "bit": 101})[3])
        there = [a ^ b for a, b in zip(clean.payload, flipped.payload, strict=True)]
        assert [(at, bits) for at, bits in enumerate(there) if bits] == [(12, 1 << 5)]
        assert client.finished().frames[2].damage == ("corrupt",)
        with pytest.raises(ValueError, match="chunk"):
            pixels_of(flipped)


def test_a_truncated_frame_is_as_short_as_named_and_so_is_each_after_it() -> None:
    with client_of() as client:
        clean = frame_of(play(client)[1]).payload
        messages = play(client, {"kind": "truncate", "keep_bytes": 20, "count": 2}, {"kind": "truncate", "frame": 4})
        assert [len(frame_of(each).payload) for each in messages[1:3]] == [20, 20]
        assert frame_of(messages[1]).payload == clean[:20]
        # Frame 4 has the length of its own frame of the ring, cut by half.
        assert len(frame_of(messages[5]).payload) == len(frame_of(play(client)[5]).payload) // 2


def test_bright_pixels_of_8_bit_wrap_where_that_is_asked_for() -> None:
    bright = SyntheticFrames(SHAPE, seed=3, distinct=2, disk_counts=300.0)
    with client_of(source=bright) as client:
        messages = play(client, {"kind": "wrap", "frame": 1}, frames=2, roi_bit_depth=8)
        whole, wrapped = (pixels_of(frame_of(each)) for each in messages[1:3])
        np.testing.assert_array_equal(whole, np.minimum(bright.counts(0), 255))
        np.testing.assert_array_equal(wrapped, bright.counts(1) % 256)
        assert (bright.counts(1) > 255).any()
        assert client.finished().frames[1].total == int(wrapped.sum())


def test_a_stall_holds_frames_back_and_does_not_hold_up_an_abort() -> None:
    with client_of() as client:
        began_s = time.monotonic()
        play(client, {"kind": "stall", "frame": 3, "seconds": 0.3})
        assert time.monotonic() - began_s >= 0.3
        client.http.put("/emulator/faults", json=[{"kind": "stall", "frame": 2, "seconds": 3600}])
        client.ready(trigger_mode="exts", nimages=4)
        client.command("arm")
        assert told([client.message() for _ in range(3)]) == ["s", 0, 1]
        assert client.state() == "acquire"
        client.command("abort")
        assert isinstance(client.message(), End)


def test_a_detector_that_says_armed_and_sends_nothing() -> None:
    with client_of() as client:
        assert play_silent(client) == []
        assert client.state() == "idle"
        assert client.finished().order == []


def play_silent(client: Client) -> list[bytes]:
    client.http.put("/emulator/faults", json=[{"kind": "silent"}])
    client.ready(nimages=3)
    client.command("arm")
    assert client.state() == "ready"
    client.command("trigger")
    client.finished()
    return client.socket.recv_multipart() if client.socket.poll(ON_ITS_WAY_MS) else []


def test_a_detector_that_stays_in_acquire_until_it_is_disarmed() -> None:
    with client_of() as client:
        client.http.put("/emulator/faults", json=[{"kind": "stuck_acquire"}])
        client.ready(nimages=2)
        client.command("arm")
        client.command("trigger")
        assert told([client.message() for _ in range(3)]) == ["s", 0, 1]
        assert client.state() == "acquire"
        assert not client.socket.poll(ON_ITS_WAY_MS)
        client.command("disarm")
        assert isinstance(client.message(), End)
        assert client.state() == "idle"


def test_a_detector_that_does_not_stop_sending_is_stopped_by_a_disarm() -> None:
    with client_of(rate_hz=200.0) as client:
        client.http.put("/emulator/faults", json=[{"kind": "overrun", "count": 10**6}])
        client.ready(nimages=2)
        client.command("arm")
        client.command("trigger")
        assert client.state() == "idle"
        assert told([client.message() for _ in range(6)]) == ["s", 0, 1, 2, 3, 4]
        client.command("disarm")
        assert client.finished().ends == 1


def test_a_detector_that_fails_says_why_and_needs_to_be_initialised() -> None:
    with client_of() as client:
        assert told(play(client, {"kind": "fail", "frame": 2})) == ["s", 0, 1]
        assert client.state() == "error"
        assert client.get("error", task="status")["value"] == ["emulator: fault fail"]
        assert client.http.put(client.path("detector", "command", "arm"), content="").status_code == 400
        assert told(play(client)) == ["s", *range(FRAMES), "e"]


def ask(client: Client, fault: dict[str, Any], **request: Any) -> httpx.Response:
    """Set a fault and ask for the detector's state."""
    client.http.put("/emulator/faults", json=[fault]).raise_for_status()
    return client.http.get(client.path("detector", "status", "state"), **request)


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_a_status_in_the_place_of_an_answer_as_often_as_named(status: int) -> None:
    with client_of() as client:
        assert ask(client, {"kind": "http_error", "status": status, "count": 2}).status_code == status
        assert client.http.get(client.path("stream", "status", "state")).status_code == status
        assert client.state() == "na"
        assert client.http.get("/emulator/faults").json() == []


def test_pages_and_huge_bodies_in_the_place_of_an_answer() -> None:
    with client_of() as client:
        page = ask(client, {"kind": "html"})
        assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
        assert len(ask(client, {"kind": "huge_body", "body_bytes": 3_000_001}).content) == 3_000_001


def test_connections_are_closed_without_and_within_an_answer() -> None:
    with client_of() as client:
        with pytest.raises(httpx.ReadError):
            ask(client, {"kind": "reset"})
        assert client.state() == "na"
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed"):
            ask(client, {"kind": "cut"})
        assert client.state() == "na"


def test_a_slow_answer_outlasts_a_client_without_patience() -> None:
    with client_of() as client:
        with pytest.raises(httpx.ReadTimeout):
            ask(client, {"kind": "slow", "path": "status/state", "seconds": 3600}, timeout=0.05)
        assert client.state() == "na"
        client.command("initialize")
        client.http.put("/emulator/faults", json=[{"kind": "slow_arm", "seconds": 0.2}]).raise_for_status()
        assert client.state() == "idle"  # only arm is slow
        began_s = time.monotonic()
        client.command("arm")
        assert time.monotonic() - began_s >= 0.2


def test_a_command_can_be_carried_out_and_its_answer_lost() -> None:
    with client_of() as client:
        client.command("initialize")
        arm = client.path("detector", "command", "arm")
        client.http.put("/emulator/faults", json=[{"kind": "reset", "path": "command/arm"}])
        with pytest.raises(httpx.ReadError):
            client.http.put(arm, content="")
        assert client.state() == "idle"
        client.http.put("/emulator/faults", json=[{"kind": "reset", "path": "command/arm", "after": True}])
        with pytest.raises(httpx.ReadError):
            client.http.put(arm, content="")
        assert client.state() == "ready"


def test_faults_can_be_set_where_it_is_started_and_are_told() -> None:
    faults = (fault_of_text("drop=frame:1"), fault_of_text("no_end"))
    with start_emulator(source=SOURCE, faults=faults) as emulator, httpx.Client(base_url=emulator.base) as http:
        kinds = [(each["kind"], each.get("frame")) for each in http.get("/emulator/faults").json()]
        assert kinds == [("drop", 1), ("no_end", 0)]
        refused = http.put("/emulator/faults", json=[{"kind": "drop", "frame": -1}])
        assert refused.status_code == 400
        assert "drop.frame" in refused.text
        assert len(http.get("/emulator/faults").json()) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("melt", "one of drop"),
        ("drop=7", "a name, a colon and a value"),
        ("drop=frame:x", "drop.frame"),
        ("drop=seconds:0,frame:1", "drop.seconds"),
        ("http_error=status:200", "http_error.status"),
        ("no_end=colour:1", "no_end.colour"),
    ],
)
def test_what_is_no_fault_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        fault_of_text(text)


@pytest.mark.parametrize("document", [{}, [3], [{"kind": ["drop"]}], [{}]])
def test_documents_that_are_no_faults_are_refused(document: Any) -> None:
    with pytest.raises(BadInput):
        read_faults(document)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_told_in_a_word(kind: str) -> None:
    assert fault_of_text(kind).kind == kind


FRAME_FAULTS = st.lists(
    st.builds(
        lambda kind, frame, count, by: {"kind": kind, "frame": frame, "count": count, "by": by},
        st.sampled_from(["drop", "duplicate", "reorder", "corrupt", "truncate"]),
        st.integers(0, 14),
        st.integers(1, 4),
        st.integers(1, 6),
    ),
    max_size=4,
)


def test_whatever_befalls_frames_the_truth_is_what_came() -> None:
    with client_of() as client:

        @settings(max_examples=30)  # each is a series over real sockets
        @given(FRAME_FAULTS)
        def holds(faults: list[dict[str, Any]]) -> None:
            client.emulator.faults.set(read_faults(faults))
            images = [each for each in play_set(client, 15) if isinstance(each, Image)]
            truth = client.finished()
            assert [each.image_id for each in images] == truth.order
            for number in range(15):
                dropped = any(each.hits(number) for each in of_kind(faults, "drop"))
                twice = any(each.hits(number) for each in of_kind(faults, "duplicate"))
                assert truth.frames[number].sent == truth.order.count(number) == (0 if dropped else 2 if twice else 1)
            sound = [each for each in images if not truth.frames[each.image_id].damage]
            for each in sound:
                np.testing.assert_array_equal(pixels_of(frame_of(each)), sent_pixels(each.image_id))

        holds()


def play_set(client: Client, frames: int) -> list[Message]:
    state = client.emulator.state
    state.command("detector", "initialize")
    state.write("stream", {"mode": "enabled", "format": "cbor"})
    state.write("detector", {"trigger_mode": "exts", "nimages": frames})
    before = len(client.emulator.truth.series())
    state.command("detector", "arm")
    wait_for(lambda: len(client.emulator.truth.series()) > before)
    return client.everything()


def of_kind(faults: list[dict[str, Any]], kind: str) -> list[Any]:
    read: tuple[Fault, ...] = read_faults([each for each in faults if each["kind"] == kind])
    return list(read)
