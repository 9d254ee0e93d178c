"""The journal: what was appended is there whatever ended its writer, on a full disk too; what was taken off is not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stem4d.errors import BadInput
from storage.disk import DiskFull
from storage.journal import Journal, waiting_in
from tests.faults.disk_world import small_disk

SMALL = 4096


@contextmanager
def new_path() -> Iterator[Path]:
    """Of a journal, in memory where there is such a place: hundreds of syncs on a busy disk take long."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder) / "j"


def texts(path: Path) -> list[str]:
    with Journal(path, SMALL) as journal:
        return [entry.text for entry in journal.entries()]


@settings(max_examples=20)
@given(
    steps=st.lists(
        st.one_of(
            st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=200).map(
                lambda text: ("add", text)
            ),
            st.integers(0, 5).map(lambda count: ("take", count)),
            st.just(("open again", 0)),
        ),
        max_size=40,
    )
)
def test_it_is_a_queue_whoever_has_it_open(steps: list[tuple[str, str | int]]) -> None:
    with new_path() as path:
        go_through(path, steps)


def go_through(path: Path, steps: list[tuple[str, str | int]]) -> None:
    expected: list[str] = []
    journal = Journal(path, SMALL)
    for step, what in steps:
        if step == "add":
            journal.append(str(what))
            expected.append(str(what))
        elif step == "take":
            taken = list(journal.entries())[: int(what)]
            if taken:
                journal.take_off(taken[-1])
                expected = expected[len(taken) :]
        else:
            journal.close()
            journal = Journal(path, SMALL)
        assert [entry.text for entry in journal.entries()] == expected
        assert journal.waiting == waiting_in(path) == len(expected)
        assert journal.damaged == 0
    journal.close()


def test_a_record_that_was_cut_short_is_as_if_it_had_never_been_begun() -> None:
    with new_path() as path:
        cut_short(path)


def cut_short(path: Path) -> None:
    with Journal(path, SMALL) as journal:
        journal.append("first")
        journal.append("second, which is longer")
        end = list(journal.entries())[-1].end
    whole = path.read_bytes()
    start = whole.index(b"second") - 35  # number, length and checksum stand before it
    for cut in (*range(start, start + 40, 3), end - 1):
        path.write_bytes(whole[:cut] + b"\0" * (len(whole) - cut))
        assert texts(path) == ["first"]
        with Journal(path, SMALL) as journal:
            assert journal.damaged == 0
            journal.append("2")
            journal.append("3")
        assert texts(path) == ["first", "2", "3"]


@settings(max_examples=30)
@given(bit=st.integers(0, 8 * 3 * 60 - 1))
def test_a_flipped_bit_costs_its_own_record_and_is_counted(bit: int) -> None:
    with new_path() as path:
        flip(path, bit)


def flip(path: Path, bit: int) -> None:
    written = [f"record {number} " + "x" * 20 for number in range(4)]
    with Journal(path, SMALL) as journal:
        for text in written:
            journal.append(text)
        ends = [entry.end for entry in journal.entries()]
    data = bytearray(path.read_bytes())
    # Not in the last one: cut short and damaged are the same there.
    at = 512 + bit // 8 % (ends[2] - 512)
    data[at] ^= 1 << bit % 8
    path.write_bytes(data)
    hit = next(index for index, end in enumerate(ends) if at < end)
    with Journal(path, SMALL) as journal:
        assert [entry.text for entry in journal.entries()] == [one for one in written if one != written[hit]]
        assert journal.damaged == 1


def test_without_its_header_everything_is_handed_out_again_in_order(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, SMALL) as journal:
        for number in range(5):
            journal.append(f"record {number}")
        journal.take_off(list(journal.entries())[1])
    assert texts(path) == ["record 2", "record 3", "record 4"]
    path.write_bytes(b"\0" * 512 + path.read_bytes()[512:])
    assert texts(path) == [f"record {number}" for number in range(5)]


def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b"dear diary\n")
    with pytest.raises(BadInput, match="no journal of nightbeam's"):
        Journal(path, SMALL)
    assert path.read_bytes().startswith(b"dear diary\n")


def test_a_writer_that_is_killed_loses_nothing_that_it_was_told_is_there(tmp_path: Path) -> None:
    """SIGKILL at a random moment of appending."""
    path = tmp_path / "j"
    writer = (
        "import sys; from pathlib import Path; from storage.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for number in range(10**9):\n"
        "    journal.append(f'{number} ' + 'x' * (number % 3000))\n"
        "    print(number, flush=True)\n"
    )
    for after in (1, 20, 150):
        path.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", writer, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        told = -1
        for line in process.stdout:
            told = int(line)
            if told == after:
                process.kill()
                break
        rest = process.stdout.read().split()
        told = int(rest[-1]) if rest else told
        process.wait()
        process.stdout.close()
        with Journal(path) as journal:
            found = [entry.text for entry in journal.entries()]
        # One more may be there: it was written, and the writer did not live to say so.
        assert len(found) in (told + 1, told + 2)
        assert [int(text.split()[0]) for text in found] == list(range(len(found)))


def fill(journal: Journal, text: str, *, urgent: bool = False) -> None:
    for _ in range(10_000):
        journal.append(text, urgent=urgent)


def test_on_a_full_disk_what_was_reserved_takes_records_and_the_last_part_of_it_only_urgent_ones(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        with Journal(disk / "j", reserved_bytes=64 << 10, urgent_bytes=8 << 10) as journal:
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(b"x" * 4096):
                    pass
            with pytest.raises(DiskFull):
                fill(journal, "ordinary " + "o" * 100)
            ordinary = journal.waiting
            assert ordinary > 300
            with pytest.raises(DiskFull):
                fill(journal, "urgent " + "u" * 100, urgent=True)
            assert journal.waiting - ordinary >= 50
            filler.unlink()
            journal.append("there is room again")
            kept = [entry.text for entry in journal.entries()]
        with Journal(disk / "j", reserved_bytes=64 << 10) as journal:
            assert [entry.text for entry in journal.entries()] == kept
        assert kept[-1] == "there is room again"
        with pytest.raises(DiskFull):
            Journal(disk / "other", reserved_bytes=4 << 20)


def test_the_room_is_taken_and_not_only_promised(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path, 1 << 20).close()
    # A sparse file of that length would have no blocks.
    assert os.stat(path).st_blocks * 512 >= 1 << 20
