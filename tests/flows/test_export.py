"""A run as a crate: what is in it is what the record says, a changed one is found out, a hostile one is refused."""

import json
import os
import socket
import subprocess
import sys
import zipfile
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from prov.model import ProvDocument
from sqlalchemy import select
from typer.testing import CliRunner

from db.dose import open_intent
from db.engine import open_engine, writer
from db.models import Run
from db.record import finish_run, start_run
from db.results import add_analysis, add_dataset
from flows.cli.app import app
from flows.export import check_crate, document_of, export_run
from flows.prov import prov_of
from stem4d.errors import BadInput
from storage import crate as crates
from storage.crate_read import METADATA, MOST_FILES
from storage.settings import Settings
from tests.db.mended_world import FIRST, SECOND
from tests.peer_environments import python_of
from tests.web.view_world import filled

PEERS = Path(__file__).parents[1] / "storage" / "peers"
FRAMES = b"frames " * 1000
REFUSED = "r20261123-000000-0003"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home that no test changes."""
    return home_at(tmp_path_factory.mktemp("export"))


def home_at(home: Path) -> Settings:
    """A home with a run that has a file here and one elsewhere, and one that was refused."""
    world = filled(home)
    path = home / "data" / SECOND / "pass2.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(FRAMES)
    engine = open_engine(world.url)
    with writer(engine) as session:
        add_dataset(
            session, run_id=world.run, pass_index=1, sha256=sha256(FRAMES).hexdigest(), size_bytes=len(FRAMES),
            scan_shape=(2, 2), detector_shape=(8, 8), dtype="uint16", frames=4, complete=True, path=str(path),
            host=socket.gethostname(),
        )  # fmt: skip
        refused = start_run(
            session, name=REFUSED, plan_id=world.plan, area_id=world.area, instrument="simulator", clock=world.clock
        )
        finish_run(session, run_id=refused, state="refused", exit_reason="it cannot work", clock=world.clock)
    engine.dispose()
    (home / "reports").mkdir()
    (home / "reports" / f"{FIRST}.html").write_text("<p>report</p>")
    return Settings(home=home)


def exported(settings: Settings, run: str, target: Path, **how: Any) -> list[str]:
    engine = open_engine(settings.database_url.get_secret_value())
    try:
        return export_run(engine, settings, run, target, **how)
    finally:
        engine.dispose()


def checked(settings: Settings, path: Path) -> tuple[str, list[str], str]:
    engine = open_engine(settings.database_url.get_secret_value())
    try:
        return check_crate(engine, path)
    finally:
        engine.dispose()


def graph_of(crate: Path) -> dict[str, dict[str, Any]]:
    return {one["@id"]: one for one in json.loads((crate / METADATA).read_text())["@graph"]}


@pytest.mark.parametrize("run", [FIRST, SECOND, REFUSED])
@pytest.mark.parametrize("name", ["crate", "crate.zip"])
def test_a_crate_that_was_written_is_that_of_the_record(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, name: str
) -> None:
    def no_network(*_arguments: object) -> None:
        raise AssertionError("it asks the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    left_out = exported(settings, run, tmp_path / name)
    assert checked(settings, tmp_path / name) == (run, [], "")
    assert [line for line in left_out if "stem1" in line] == (
        ["/data/r.h5 on stem1: the file is not on this machine"] if run == SECOND else []
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_results_of_analyses_are_taken_along(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    settings = home_at(tmp_path / "home")
    home, engine = settings.home, open_engine(settings.database_url.get_secret_value())
    here, gone = home / "results" / SECOND / "com-1.h5", home / "results" / SECOND / "strain-1.h5"
    here.parent.mkdir(parents=True)
    here.write_bytes(b"results")
    summary = {"options": "field=none", "input_sha256": sha256(FRAMES).hexdigest()}

    def record(path: Path, digest: str) -> None:
        with writer(engine) as session:
            run = session.scalars(select(Run.id).where(Run.name == FIRST)).one()
            told = {"summary": {**summary, "results_sha256": digest}, "path": str(path), "method": path.stem}
            add_analysis(session, run_id=run, verdict="good", reason="it is", **told)

    try:
        record(here, sha256(b"results").hexdigest())
        record(gone, "b" * 64)
        left_out = exported(settings, FIRST, tmp_path / "crate")
        assert [line for line in left_out if "strain-1.h5" in line]
        graph = graph_of(tmp_path / "crate")
        (name,) = (one for one in graph if one.startswith("results/"))
        assert (tmp_path / "crate" / name).read_bytes() == b"results"
        (action,) = (one for one in graph.values() if one.get("name", "").endswith(": com-1"))
        assert name in json.dumps(action["result"])
        assert "field=none" in action["description"]
        assert "data/pass2.h5" in json.dumps(action["object"])
        assert {"@id": action["@id"]} in graph["./"]["mentions"]
        # What is worked out after the export is not held against the crate.
        record(home / "later.h5", "c" * 64)
        assert checked(settings, tmp_path / "crate") == (FIRST, [], "")
        (tmp_path / "crate" / name).write_bytes(b"another")
        assert any(name in line for line in checked(settings, tmp_path / "crate")[1])
    finally:
        engine.dispose()


def test_what_a_crate_says_of_the_run(settings: Settings, tmp_path: Path) -> None:
    exported(settings, FIRST, tmp_path / "first", licence="https://example.org/licence")
    first = graph_of(tmp_path / "first")
    run = first["#run"]
    assert run["actionStatus"].endswith("FailedActionStatus")
    assert run["error"] == "saturated"
    assert {"@id": "data/pass2.h5"} in run["result"]
    assert first["data/pass2.h5"]["sha256"] == sha256(FRAMES).hexdigest()
    assert (tmp_path / "first" / "data" / "pass2.h5").read_bytes() == FRAMES
    assert (tmp_path / "first" / "report.html").read_text() == "<p>report</p>"
    assert first["./"]["license"] in ("https://example.org/licence", {"@id": "https://example.org/licence"})
    exported(settings, SECOND, tmp_path / "second", with_frames=False)
    second = graph_of(tmp_path / "second")
    assert second["#run"]["actionStatus"].endswith("CompletedActionStatus")
    # Data that stay where they are are told of, and where.
    (absent,) = (one for name, one in second.items() if name.startswith("#dataset-"))
    assert "/data/r.h5 on stem1" in absent["description"]
    assert not (tmp_path / "second" / "data").exists()


def test_provenance_comes_back_as_it_was_and_has_what_the_rows_have(settings: Settings) -> None:
    engine = open_engine(settings.database_url.get_secret_value())
    for run in (FIRST, SECOND, REFUSED):
        facts = document_of(engine, run)
        text = prov_of(facts)
        read = ProvDocument.deserialize(content=text, format="json")
        assert ProvDocument.deserialize(content=read.serialize(format="json"), format="json") == read
        told = json.loads(text)
        assert sum("dataset-" in name for name in told.get("entity", {})) == len(facts["datasets"])
        known = {one["id"] for one in (*facts["calibrations"], *facts["measured"])}
        assert sum("calibration-" in name for name in told.get("entity", {})) == len(known)
        made = sum(len(facts[part]) for part in ("datasets", "analyses", "measured"))
        assert len(told.get("wasGeneratedBy", {})) == made
    engine.dispose()


def test_a_file_that_is_not_the_one_that_was_recorded_is_not_exported(settings: Settings, tmp_path: Path) -> None:
    path = settings.home / "data" / SECOND / "pass2.h5"
    path.write_bytes(b"other " * 1000)
    try:
        with pytest.raises(BadInput, match="is not the file that was recorded"):
            exported(settings, FIRST, tmp_path / "crate")
    finally:
        path.write_bytes(FRAMES)
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_is_there_is_replaced_and_nothing_half_is_left(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(BadInput, match="never overwritten"):
        exported(settings, FIRST, tmp_path / "there")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(crates, "_pack", full)
    with pytest.raises(BadInput):
        exported(settings, FIRST, tmp_path / "full.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_what_was_changed_in_a_crate_is_found(settings: Settings, tmp_path: Path) -> None:
    crate = tmp_path / "crate"
    exported(settings, FIRST, crate)
    (crate / "data" / "pass2.h5").write_bytes(b"x" * len(FRAMES))
    (crate / "more.txt").write_text("more")
    facts = json.loads((crate / "run.json").read_text())
    facts["state"] = "done"
    (crate / "run.json").write_text(json.dumps(facts))
    (crate / "plan.json").unlink()
    _run, troubles, _remark = checked(settings, crate)
    said = "\n".join(troubles)
    for words in ("pass2.h5 is another", "more.txt is in the crate", "plan.json is missing", 'state is "done"'):
        assert words in said, troubles


def forged(crate: Path) -> None:
    """Let its description state what its files are now."""
    document = json.loads((crate / METADATA).read_text())
    for one in document["@graph"]:
        path = crate / one["@id"]
        if one["@type"] == "File" and path.is_file():
            one["sha256"], one["contentSize"] = sha256(path.read_bytes()).hexdigest(), str(path.stat().st_size)
    (crate / METADATA).write_text(json.dumps(document))


def test_a_crate_whose_description_was_forged_is_not_that_of_the_record(settings: Settings, tmp_path: Path) -> None:
    for number, (name, text) in enumerate(
        {"data/pass2.h5": "other", "plan.json": "{}", "quality.json": "[]", "prov.json": "{}"}.items()
    ):
        crate = tmp_path / f"c{number}"
        exported(settings, FIRST, crate)
        (crate / name).write_text(text)
        forged(crate)
        assert checked(settings, crate)[1], name
    crate = tmp_path / "less"
    exported(settings, FIRST, crate)
    (crate / "data" / "pass2.h5").unlink()
    document = json.loads((crate / METADATA).read_text())
    document["@graph"] = [one for one in document["@graph"] if one["@id"] != "data/pass2.h5"]
    next(one for one in document["@graph"] if one["@id"] == "#run")["actionStatus"] = "http://schema.org/Completed"
    (crate / METADATA).write_text(json.dumps(document))
    said = "\n".join(checked(settings, crate)[1])
    assert "neither in the crate nor said to be elsewhere" in said
    assert "the run ended as http://schema.org/Completed" in said


def test_what_takes_all_memory_to_unpack_is_refused(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "crate.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as target:
        target.writestr(METADATA, b" " * 2**20)
    with pytest.raises(BadInput, match="another way than stored or deflated"):
        checked(settings, path)


def test_a_crate_is_held_to_itself_where_nobody_knows_its_run(settings: Settings, tmp_path: Path) -> None:
    exported(settings, FIRST, tmp_path / "crate")
    elsewhere = Settings(home=tmp_path)
    run, troubles, remark = checked(elsewhere, tmp_path / "crate")
    assert (run, troubles) == (FIRST, [])
    assert "does not know it" in remark


def test_what_comes_after_a_run_is_not_held_against_its_crate(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    world = filled(tmp_path / "home")
    of_home = Settings(home=tmp_path / "home")
    exported(of_home, SECOND, tmp_path / "crate")
    engine = open_engine(world.url)
    with writer(engine) as session:
        later = start_run(
            session, name=REFUSED, plan_id=world.plan, area_id=world.area, instrument="simulator", attempt=3,
            parent_id=session.scalar(select(Run.id).filter_by(name=SECOND)), clock=world.clock,
        )  # fmt: skip
        open_intent(
            session, run_id=later, area_id=world.area, purpose="survey", token="later", fluence_e_per_a2=1.0,
            clock=world.clock,
        )  # fmt: skip
    engine.dispose()
    assert checked(of_home, tmp_path / "crate") == (SECOND, [], "")


def test_the_commands_tell(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(settings.home))
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert runner.invoke(app, ["export", FIRST]).exit_code == 0
    assert runner.invoke(app, ["verify-crate", f"{FIRST}.crate"]).exit_code == 0
    assert runner.invoke(app, ["export", SECOND, "--to", "s.zip"]).exit_code == 3
    (tmp_path / f"{FIRST}.crate" / "run.json").write_text("{}")
    assert runner.invoke(app, ["verify-crate", f"{FIRST}.crate"]).exit_code == 2
    unknown = runner.invoke(app, ["export", "r0"])
    assert unknown.exit_code == 2
    assert FIRST in unknown.output


def packed(path: Path, members: dict[str, bytes], *, link: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in members.items():
            one = zipfile.ZipInfo(name)
            one.compress_type = zipfile.ZIP_DEFLATED
            if name == link:
                one.external_attr = 0o120777 << 16
            target.writestr(one, data)
    return path


def described(*entities: dict[str, Any]) -> bytes:
    return json.dumps({"@context": "https://evil.example/context", "@graph": [{"@id": "./"}, *entities]}).encode()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"../out.txt": b"x", METADATA: described()}, "path within the crate"),
        ({"/etc/passwd": b"x", METADATA: described()}, "path within the crate"),
        ({"a\\..\\b": b"x", METADATA: described()}, "path within the crate"),
        ({"C:/x": b"x", METADATA: described()}, "path within the crate"),
        ({"x" * 1001: b"x", METADATA: described()}, "path within the crate"),
        ({METADATA: described({"@id": "../../etc/passwd", "@type": "File"})}, "path within the crate"),
        ({METADATA: described({"@id": "%2e%2e/x", "@type": "File"})}, "path within the crate"),
        ({METADATA: described({"@id": "a", "@type": "File", "contentSize": "1e9"})}, "number of bytes"),
        ({METADATA: described({"@id": "a", "@type": "File", "sha256": "zz"})}, "64 hexadecimal"),
        ({METADATA: described({"@id": "a"}, {"@id": "a"})}, "@id of its own"),
        ({METADATA: described({"@type": "File"})}, "@id of its own"),
        ({METADATA: b'{"@graph": [{"@id": "./", "a": NaN}]}'}, "NaN is no number"),
        ({METADATA: b'{"@graph": [{"@id": "./", "@id": "a"}]}'}, "stands twice"),
        ({METADATA: b"[" * 100_000 + b"]" * 100_000}, "nested too deeply"),
        ({METADATA: b"\xff\xfe"}, "UTF-8"),
        ({METADATA: b"[]"}, "list of entities"),
        ({"a.txt": b"x"}, "at its top"),
        ({METADATA: described()}, "none of a run"),
        ({METADATA: described(), "run.json": b"[]"}, "name of a run"),
        ({METADATA: described(), "run.json": b" " * (65 * 2**20)}, "at most"),
        ({METADATA: b" " * (65 * 2**20)}, "at most"),
        ({f"{number}.txt": b"" for number in range(MOST_FILES)} | {METADATA: described()}, "at most 10000 files"),
    ],
)
def test_a_hostile_crate_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes], words: str
) -> None:
    def no_network(*_arguments: object) -> None:
        raise AssertionError("it asks the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    path = packed(tmp_path / "crate.zip", members)
    with pytest.raises(BadInput) as refused:
        checked(settings, path)
    assert words in str(refused.value)
    assert [one.name for one in tmp_path.iterdir()] == ["crate.zip"]


def test_a_link_in_a_crate_is_refused(settings: Settings, tmp_path: Path) -> None:
    path = packed(tmp_path / "crate.zip", {METADATA: described(), "a": b"/etc/passwd"}, link="a")
    with pytest.raises(BadInput, match="is a link"):
        checked(settings, path)
    folder = tmp_path / "crate"
    folder.mkdir()
    (folder / METADATA).write_bytes(described())
    (folder / "run.json").symlink_to("/etc/passwd")
    with pytest.raises(BadInput, match="is a link"):
        checked(settings, folder)
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")
    with pytest.raises(BadInput, match="no ordinary file"):
        checked(settings, folder)


def test_a_member_that_claims_less_than_it_holds_is_not_read_for_ever(settings: Settings, tmp_path: Path) -> None:
    data = b"\0" * 2**22
    entity = {"@id": "big", "@type": "File", "sha256": sha256(data).hexdigest()}
    name = json.dumps({"name": FIRST}).encode()
    path = packed(tmp_path / "crate.zip", {METADATA: described(entity), "big": data, "run.json": name})
    raw = path.read_bytes()
    claimed = len(data).to_bytes(4, "little")
    assert raw.count(claimed) == 2
    path.write_bytes(raw.replace(claimed, (16).to_bytes(4, "little")))
    with pytest.raises(BadInput, match="cannot be unpacked"):
        checked(settings, path)


@pytest.mark.slow
@pytest.mark.parametrize("run", [FIRST, SECOND, REFUSED])
def test_an_independent_validator_finds_every_required_thing(settings: Settings, tmp_path: Path, run: str) -> None:
    exported(settings, run, tmp_path / "crate")
    context = files("rocrate") / "data" / "ro-crate.jsonld"
    command = [python_of(PEERS / "rocrate.txt"), PEERS / "validate_crate.py", tmp_path / "crate", str(context)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1:] == ["True"], done.stdout + done.stderr


def test_a_run_is_exported_without_loading_what_is_not_needed() -> None:
    # The library takes half a second: commands that export nothing do without it.
    code = "import sys, flows.cli.app; sys.exit('rocrate' in sys.modules or 'prov' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
