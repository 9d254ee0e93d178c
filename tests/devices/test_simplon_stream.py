"""Frames out of a detector's stream, over real sockets: series told apart, ends that come early, silence, damage."""

import pickle
import threading
import time

import numpy as np
import pytest
import zmq

from devices.simplon.messages import Image, Message, PackedFrame, array_of, decode, encode
from devices.simplon.receive import Queue, _read
from devices.simplon.stream import SimplonFrames
from stem4d.errors import DeviceFault
from tests.devices.emulator_world import wait_for
from tests.devices.simplon_content import image_content
from tests.devices.simplon_world import SHAPE, Clock, Sender, chunk_of, end, frame_of, image, images, start
from tests.packing import bitshuffle


def received(frames: SimplonFrames) -> tuple[list[int], list[bytes], int]:
    """Numbers, chunks and strays of a whole stream."""
    batches = list(frames.batches())
    return (
        [index for batch in batches for index in batch.indices],
        [chunk for batch in batches for chunk in batch.chunks],
        sum(batch.strays for batch in batches),
    )


def arrived(frames: SimplonFrames, messages: int) -> None:
    """Wait until so many messages are in the queue: however slowly they came, one look takes them."""
    wait_for(lambda: len(frames._queue._items) >= messages)


def test_frames_come_as_they_were_packed() -> None:
    with Sender() as sender, pickle.loads(pickle.dumps(sender.spec())).open() as frames:
        sender.send(start(), *images(range(12)), end())
        numbers, chunks, strays = received(frames)
    assert numbers == list(range(12))
    assert chunks == [chunk_of(number) for number in range(12)]
    assert strays == 0


def test_a_series_left_over_is_drained_and_ours_may_begin_with_images() -> None:
    others = [start("OLD", "their-token"), *images(range(5), "OLD"), end("OLD"), *images(range(2), "OLDER")]
    with Sender() as sender, sender.spec().open() as frames:
        sender.send(*others, *images([3, 1]), start(), *images([0, 2, *range(4, 12)]), *images([9], "OLD"))
        arrived(frames, len(others) + 14)
        numbers, _chunks, strays = received(frames)
    assert numbers == [3, 1, 0, 2, *range(4, 12)]
    assert strays == len(others) + 1


def test_what_comes_twice_is_handed_on_and_does_not_complete() -> None:
    with Sender() as sender, sender.spec().open() as frames:
        sender.send(start(), *images([0, 0, 5, *range(1, 12)]), *images([11, 12]), b"rubbish")
        arrived(frames, 18)
        numbers, _chunks, strays = received(frames)
    assert numbers == [0, 0, 5, *range(1, 12), 11, 12]
    assert strays == 1


def test_a_series_left_over_is_another_one_also_under_our_name() -> None:
    with Sender() as sender, sender.spec().open(Clock()) as frames:
        sender.send(*(image(number, series_id=1) for number in range(3)), end())
        sender.send(start(series_id=2), image(3, series_id=1), *(image(number, series_id=2) for number in range(12)))
        arrived(frames, 18)
        numbers, chunks, strays = received(frames)
    assert (numbers, strays) == (list(range(12)), 5)
    assert chunks == [chunk_of(number) for number in range(12)]


def test_an_end_that_overtakes_frames_is_not_the_end() -> None:
    with Sender() as sender, sender.spec().open(Clock()) as frames:
        sender.send(start(), *images(range(9)), end())
        arrived(frames, 11)
        batches = frames.batches()
        first = next(batches)
        assert frames._series.ended
        sender.send(*images([9, 10, 11]))
        rest = [index for batch in batches for index in batch.indices]
    assert first.indices + rest == list(range(12))


def test_an_end_is_believed_when_the_grace_is_over() -> None:
    clock = Clock()
    with Sender() as sender, sender.spec().open(clock) as frames:
        sender.send(start(), *images(range(9)), end())
        arrived(frames, 11)
        numbers: list[int] = []
        for batch in frames.batches():
            numbers += batch.indices
            clock.now_s += 0.0 if batch.chunks else 0.9
    assert numbers == list(range(9))
    # The third empty batch is the first beyond 2 s; one more carries the last figures.
    assert clock.now_s == pytest.approx(100.0 + 4 * 0.9)


def test_a_gap_ends_the_source_with_what_came() -> None:
    clock = Clock()
    with Sender() as sender, sender.spec(gap_timeout_s=5.0).open(clock) as frames:
        sender.send(start(), *images(range(9)))
        arrived(frames, 10)
        numbers: list[int] = []
        for batch in frames.batches():
            numbers += batch.indices
            clock.now_s += 0.0 if batch.chunks else 1.0
    assert numbers == list(range(9))
    assert clock.now_s == pytest.approx(105.0 + 1.0)  # one more batch carries the last figures


def told(frames: SimplonFrames, clock: Clock) -> None:
    """Follow a stream without frames, a second a batch."""
    for batch in frames.batches():
        assert not batch.chunks
        clock.now_s += 1.0


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([], r"no series of ours within 3\.0 s \(0 other messages"),
        ([start("OLD", "theirs"), image(0, "OLD"), image(0)], r"no series of ours within 3\.0 s \(3 other messages"),
        ([start()], r"announced the series but sent no frame within 3\.0 s"),
        ([start(), end()], "ended the series without a frame"),
        ([end(), start()], "ended the series without a frame"),
    ],
)
def test_when_nothing_comes_it_is_a_fault_that_says_what_did(sent: list[bytes], message: str) -> None:
    clock = Clock()
    with Sender() as sender, sender.spec(first_frame_timeout_s=3.0).open(clock) as frames:
        sender.send(*sent)
        arrived(frames, len(sent))
        with pytest.raises(DeviceFault, match=message):
            told(frames, clock)


def test_silence_is_reported_five_times_a_second() -> None:
    with Sender() as sender, sender.spec().open() as frames:
        batches = frames.batches()
        next(batches)
        times = [time.monotonic()]
        for _ in range(4):
            assert next(batches).chunks == []
            times.append(time.monotonic())
    # The shortest of four gaps: a busy machine lengthens some, not all.
    assert min(np.diff(times)) < 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number_of_images": 13}, "number of images: the detector says 13, 12 was prepared"),
        ({"image_size_x": 8}, r"frame shape: the detector says \(4, 8\), \(4, 6\) was prepared"),
        ({"image_dtype": "uint32"}, "pixel type: the detector says uint32, uint16 was prepared"),
        ({"bit_depth_image": 8}, "bit depth: the detector says 8, 16 was prepared"),
        ({"channels": ["threshold_2"]}, "the detector has threshold_2, threshold_1 was prepared"),
    ],
)
def test_a_series_that_is_not_what_was_prepared_is_refused(changes: dict[str, object], message: str) -> None:
    with Sender() as sender, sender.spec(channel="threshold_1").open() as frames:
        sender.send(start(**changes))
        with pytest.raises(DeviceFault, match=message):
            list(frames.batches())


def test_a_start_need_not_name_the_pixel_type() -> None:
    with Sender() as sender, sender.spec().open() as frames:
        sender.send(start(image_dtype="uint16", channels=[]), *images(range(12)))
        assert len(received(frames)[0]) == 12


def test_frames_that_are_not_packed_are_packed() -> None:
    codec = bitshuffle()
    with Sender() as sender, sender.spec().open() as frames:
        sender.send(start(), *(image(number, algorithm="") for number in range(12)))
        _numbers, chunks, _strays = received(frames)
    read = np.empty((12, *SHAPE), np.uint16)
    codec.unpack(chunks, read)
    np.testing.assert_array_equal(read, [frame_of(number) for number in range(12)])


@pytest.mark.parametrize("algorithm", ["bslz4", ""])
@pytest.mark.parametrize(("shape", "dtype"), [((6, 4), "<u2"), ((4, 3), "<u4"), ((8, 6), "|u1"), ((2, 6), "<f4")])
def test_a_frame_of_another_shape_or_type_fits_none_and_its_bytes_are_kept(
    shape: tuple[int, int], dtype: str, algorithm: str
) -> None:
    codec = bitshuffle()
    # 48 bytes each, as ours have: by its length alone none of them is told.
    pixels = np.frombuffer(frame_of(1).tobytes(), dtype).reshape(shape)
    payload = codec.pack(pixels[None])[0] if algorithm else pixels.tobytes()
    foreign = PackedFrame(shape, np.dtype(dtype), algorithm, payload)
    message = encode(image_content(Image(1, "OURS", 1, {"threshold_1": foreign}, 0.0, 1e-4), ""))
    with Sender() as sender, sender.spec().open() as frames:
        sender.send(start(), image(0), message, *images(range(2, 12)))
        numbers, chunks, _strays = received(frames)
    assert numbers == list(range(12))
    assert chunks[1].endswith(payload)
    with pytest.raises(ValueError, match="does not fit"):
        codec.unpack([chunks[1]], np.empty((1, *SHAPE), np.uint16))
    assert [chunk for index, chunk in enumerate(chunks) if index != 1] == [chunk_of(n) for n in (0, *range(2, 12))]


def test_lz4_is_refused() -> None:
    with Sender() as sender, sender.spec().open() as frames:
        sender.send(start(), image(0, algorithm="lz4"))
        with pytest.raises(DeviceFault, match="packs frames by lz4; bslz4 can be stored"):
            list(frames.batches())


def test_a_later_frame_with_a_damaged_head_is_handed_on_for_the_intake_to_judge() -> None:
    with Sender() as sender, sender.spec().open() as frames:
        sender.send(start(), image(0))
        batches = frames.batches()
        while not next(batches).chunks:
            pass
        sender.send(image(1, algorithm="bslx4"), image(2, channel="other"), *images(range(3, 12)), end())
        # The channel is the first of each image, whatever its name.
        assert [index for batch in batches for index in batch.indices] == list(range(1, 12))


def test_a_frame_without_the_wanted_channel_is_a_stray() -> None:
    clock = Clock()
    with Sender() as sender, sender.spec(channel="threshold_1").open(clock) as frames:
        sender.send(start(), image(0, channel="other"), *images(range(1, 12)), end())
        numbers, strays = [], 0
        for batch in frames.batches():
            numbers += batch.indices
            strays += batch.strays
            clock.now_s += 0.0 if batch.chunks else 1.0
    assert (numbers, strays) == (list(range(1, 12)), 1)


def test_nobody_at_the_address_is_a_fault_before_anything_is_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.simplon.receive.CONNECT_TIMEOUT_S", 0.1)
    with Sender() as sender:
        spec = sender.spec()
    with pytest.raises(DeviceFault, match=rf"127.0.0.1:{spec.port} did not answer within 0.1 s"):
        spec.open()


def test_a_reader_that_stalls_holds_the_sender_up_and_loses_nothing() -> None:
    count = 3000
    size = len(chunk_of(0)) + 400
    with Sender() as sender, sender.spec(count, queue_bytes=64 * size).open() as frames:
        sending = threading.Thread(target=sender.send, args=(start(number_of_images=count), *images(range(count))))
        sending.start()
        batches = frames.batches()
        first = next(batch for batch in batches if batch.chunks)
        # Until the receiver has stood still for a while.
        wait_for(lambda: frames._queue._held_up_s >= 0.1)
        rest = list(batches)
        sending.join()
    numbers = first.indices + [index for batch in rest for index in batch.indices]
    assert numbers == list(range(count))
    assert sum(batch.held_up_s for batch in rest) >= 0.1
    assert 0.5 < max(batch.queue_share for batch in rest) <= 1.0


def test_batches_are_of_64_frames_at_most() -> None:
    with Sender() as sender, sender.spec(200).open() as frames:
        sender.send(start(number_of_images=200), *images(range(200)))
        sizes = [len(batch.chunks) for batch in frames.batches()]
    assert max(sizes) <= 64
    assert sum(sizes) == 200


def test_batches_of_large_frames_are_of_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.simplon.stream.BATCH_BYTES", 3 * frame_of(0).nbytes)
    with Sender() as sender, sender.spec().open() as frames:
        # Those that come before our start message are kept, and handed on together.
        sender.send(*images(range(8)), start(), *images(range(8, 12)))
        batches = list(frames.batches())
    assert max(len(batch.chunks) for batch in batches) == 3
    assert [index for batch in batches for index in batch.indices] == list(range(12))


def test_no_more_is_read_at_once_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.simplon.receive.WAITING_BYTES", 2 * len(image(0)))
    with zmq.Context() as context, context.socket(zmq.PULL) as reader, Sender() as sender:
        reader.connect(f"tcp://127.0.0.1:{sender.port}")
        sender.send(*images(range(6)))
        read: list[int] = []
        while len(read) < 6:
            assert reader.poll(20_000)
            some = _read(reader)
            assert len(some) <= 2
            read += [message.image_id for message, _size in some if isinstance(message, Image)]
    assert read == list(range(6))


def test_a_reader_wakes_when_the_queue_is_half_full() -> None:
    queue = Queue(1000)
    taken: list[Message | None] = []
    reader = threading.Thread(target=lambda: taken.extend(queue.take(64, 60.0)), daemon=True)
    reader.start()
    while queue._enough != 64:  # it holds the lock from then on until it waits
        time.sleep(0.001)
    message = decode(image(0))
    queue.put([(message, 500)])
    # A third of the time that it would wait for 64 messages.
    reader.join(20.0)
    assert taken == [message]


def test_a_start_message_of_others_may_hold_anything() -> None:
    with Sender() as sender, sender.spec().open() as frames:
        sender.send(start("OLD", user_data=array_of(frame_of(0))), start(), *images(range(12)))
        numbers, _chunks, strays = received(frames)
    assert (numbers, strays) == (list(range(12)), 1)


def test_a_message_larger_than_the_queue_passes_alone() -> None:
    queue = Queue(10)
    message = decode(image(0))
    queue.put([(message, 1000)])
    assert queue.take(64, 0.0) == [message]
    assert queue.share == 1.0
    assert queue.take(64, 0.0) == []
    assert queue.share == 0.0


def test_an_overrun_is_handed_on_and_left_after_a_short_look() -> None:
    clock = Clock()
    with Sender() as sender, sender.spec().open(clock) as frames:
        sender.send(start(), *images(range(700)))
        arrived(frames, 64)
        numbers: list[int] = []
        for batch in frames.batches():
            numbers += batch.indices
            clock.now_s += 0.06
    assert numbers == list(range(len(numbers)))
    assert 12 < len(numbers) < 700
