"""verify and recover as a person and a script see them, with what the database has of the files."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import Result
from typer.testing import CliRunner

from db.engine import Engine, open_engine, reader, writer
from db.questions.show import show_run
from db.record import register_area, register_plan, register_sample, start_run
from db.results import add_dataset
from flows.cli.app import app
from stem4d.model import canonical_json
from storage.settings import Settings
from storage.spec import FileReceipt, FileSpec
from tests.flows.night_world import NAME, small
from tests.storage.damage_world import chunks_of, flip, frames_in, left_behind, recorded_of, sha256
from tests.storage.storage_world import FACTS, spec_at, written

RUN = "r-0001"
"""The run that the files of ``storage_world`` say they are of."""


class World(NamedTuple):
    """A home with a run in its database, whose data are still to come."""

    home: Path
    engine: Engine
    run: int
    folder: Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    assert FACTS["run"] == RUN
    settings = Settings(home=tmp_path / "home")
    folder = settings.data_folder / RUN
    folder.mkdir(parents=True)
    engine = open_engine(settings.database_url.get_secret_value())
    plan = small("1_overview.yaml", 16)
    with writer(engine) as session:
        sample = register_sample(session, name="crystal")
        run = start_run(
            session,
            name=RUN,
            plan_id=register_plan(session, name=plan.name, canonical_json=canonical_json(plan)),
            area_id=register_area(session, sample_id=sample, name="lamella-1", fluence_budget_e_per_a2=1.0),
            instrument=NAME,
        )
    yield World(settings.home, engine, run, folder)
    engine.dispose()


def nightbeam(home: Path, *arguments: str) -> Result:
    env = {"NIGHTBEAM_HOME": str(home), "NIGHTBEAM_DISK_RESERVE_GB": "0", "COLUMNS": "200"}
    return CliRunner().invoke(app, list(arguments), env=env)


def facts(home: Path, *arguments: str, code: int) -> Any:
    told = nightbeam(home, *arguments, "--json")
    assert told.exit_code == code, told.output
    return json.loads(told.stdout)


def registered(world: World, spec: FileSpec, receipt: FileReceipt) -> int:
    with writer(world.engine) as session:
        return add_dataset(
            session,
            run_id=world.run,
            pass_index=0,
            sha256=receipt.sha256,
            size_bytes=receipt.bytes,
            scan_shape=spec.scan_shape,
            detector_shape=spec.detector_shape,
            dtype=spec.dtype,
            frames=receipt.frames_written,
            complete=receipt.complete,
            path=str(receipt.path),
            host=socket.gethostname(),
        )


def test_a_run_is_verified_against_what_was_recorded_of_it(world: World) -> None:
    spec = spec_at(world.folder / "pass1.h5")
    dataset = registered(world, spec, written(spec))
    (one,) = facts(world.home, "verify", RUN, code=0)["files"]
    assert (one["sound"], one["complete"], one["recorded"]["dataset"]) == (True, True, dataset)
    assert one["sha256"] == one["recorded"]["sha256"]
    # A value in the axis is no frame and has no checksum of its own: only that of the whole file tells.
    content = spec.path.read_bytes()
    axis = chunks_of(spec.path)[0].offset - 8
    spec.path.write_bytes(content[:axis] + b"\xff" + content[axis + 1 :])
    told = nightbeam(world.home, "verify", RUN)
    assert told.exit_code == 3
    assert "NOT SOUND" in told.stdout
    assert f"was recorded for {RUN}, dataset {dataset}" in told.stdout
    assert "15 of 15 frames intact" in told.stdout
    spec.path.write_bytes(bytes(100))
    assert "cannot be read at all" in facts(world.home, "verify", RUN, code=3)["files"][0]["troubles"][0]
    spec.path.unlink()
    assert "it is not there" in facts(world.home, "verify", RUN, code=3)["files"][0]["troubles"][0]


def test_a_damaged_copy_elsewhere_is_known_by_its_run_and_name(world: World, tmp_path: Path) -> None:
    spec = spec_at(world.folder / "pass1.h5")
    registered(world, spec, written(spec))
    copy = tmp_path / "copies" / "pass1.h5"
    copy.parent.mkdir()
    copy.write_bytes(spec.path.read_bytes())
    flip(copy, chunks_of(copy)[7].offset + 20, 4)
    (one,) = facts(world.home, "verify", str(copy), code=3)["files"]
    assert one["findings"]["damaged"] == [[7, 7]]
    assert [line.partition(" ")[0] for line in one["troubles"]] == ["1", "its"]


def test_what_a_crash_left_is_recovered_and_recorded_with_its_run(world: World) -> None:
    spec = left_behind(world.folder / "pass2.h5")
    before = sha256(spec.partial)
    (one,) = facts(world.home, "recover", RUN, code=0)["files"]
    assert (one["state"], one["recovered"]["frames"], one["recovered"]["flushed"]) == ("recovered", 58, 58)
    new = Path(one["recovered"]["path"])
    assert new == world.folder / "pass2.recovered.h5"
    assert sorted(frames_in(new)) == recorded_of(spec, 60)
    assert sha256(spec.partial) == before
    with reader(world.engine) as session:
        shown = show_run(session, name=RUN)
    assert shown["state"] == "running"
    old, made = shown["datasets"]
    assert (old["sha256"], old["parents"], old["frames"], old["complete"]) == (before, [], 58, False)
    assert (made["sha256"], made["parents"], made["frames"]) == (sha256(new), [old["id"]], 58)
    assert [place["path"] for one in (old, made) for place in one["locations"]] == [str(spec.partial), str(new)]
    assert [event["message"] for event in shown["events"] if event["kind"] == "recovered"] == [
        "58 of 58 flushed frames of pass2.h5.partial saved as pass2.recovered.h5"
    ]
    # Once more, it is done already; named by itself, it is refused.
    assert [one["state"] for one in facts(world.home, "recover", RUN, code=0)["files"]] == ["recovered before"]
    refused = facts(world.home, "recover", str(spec.partial), code=2)["files"]
    assert "never overwritten" in refused[0]["words"]
    with reader(world.engine) as session:
        assert len(show_run(session, name=RUN)["datasets"]) == 2
    states = {Path(one["file"]).name: one["sound"] for one in facts(world.home, "verify", RUN, code=3)["files"]}
    assert states == {"pass2.h5.partial": False, "pass2.recovered.h5": True}


def test_a_damaged_dataset_is_the_parent_of_what_was_saved_of_it(world: World, tmp_path: Path) -> None:
    spec = spec_at(world.folder / "pass1.h5")
    dataset = registered(world, spec, written(spec))
    flip(spec.path, chunks_of(spec.path)[7].offset + 20, 4)
    told = nightbeam(world.home, "recover", str(spec.path), "--to", str(tmp_path))
    assert told.exit_code == 3
    assert "14 of 15 flushed frames saved" in told.stdout
    assert "corrupt now: positions 7" in told.stdout
    assert f"made from {dataset}" in told.stdout
    assert (tmp_path / "pass1.recovered.h5").exists()


def test_a_file_of_no_run_needs_no_database(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5")
    home = tmp_path / "none"
    told = nightbeam(home, "recover", str(tmp_path))
    assert told.exit_code == 0, told.output
    assert "not recorded" in told.stdout
    assert not home.exists()
    assert facts(home, "recover", str(tmp_path / "none"), code=2)["limit"].startswith("there is no such file or folder")
    spec.partial.unlink()
    assert "nothing to recover" in nightbeam(home, "recover", str(tmp_path)).stdout


def test_hopeless_files_say_what_can_be_done(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5")
    content = spec.partial.read_bytes()
    spec.partial.write_bytes(content[:60] + bytes(200) + content[260:])
    told = nightbeam(tmp_path / "none", "recover", str(spec.partial))
    assert told.exit_code == 3
    assert "Keep it: bring back a copy of it" in told.stdout


def test_a_disk_without_room_is_said_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path / "a.h5")
    monkeypatch.setattr("storage.salvage.disk.shutil.disk_usage", lambda _: replace_free(1000))
    told = nightbeam(tmp_path / "none", "recover", str(tmp_path))
    assert told.exit_code == 1
    assert "bytes are needed (reserve included), 1,000 are free" in told.stdout


class Usage(NamedTuple):
    """As ``shutil.disk_usage`` gives it."""

    total: int
    used: int
    free: int


def replace_free(free: int) -> Usage:
    return Usage(10**12, 10**12 - free, free)


def test_others_files_are_refused_by_name_and_passed_over_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("no data")
    home = tmp_path / "none"
    assert facts(home, "verify", str(tmp_path / "a.h5"), code=2)["refused"] == 1
    assert facts(home, "verify", str(tmp_path), code=0)["refused"] == 0
