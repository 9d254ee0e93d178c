"""A record in which every name and note is hostile (row F17): shown as text, by pages, reports and commands."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from typer.testing import CliRunner

from db.engine import open_engine, reader
from db.questions.night import night_story
from db.questions.show import show_run
from flows.cli.app import app
from tests.hostile import HUGE, NAMES
from tests.web.hostile_world import RUNS, filled
from tests.web.view_world import Client, pages

# The words of a drawing stay words, which the browser draws with fonts of its own: matplotlib's lack signs.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Glyph .* missing from font:UserWarning")]
OURS = re.compile(r"^(/|#|data:,|data:image/)")
ATTRIBUTES = {
    *("href", "src", "alt", "class", "id", "lang", "rel", "name", "content", "charset", "http-equiv", "action", "role"),
    *("aria-label", "aria-current", "type", "value", "placeholder", "maxlength", "for", "scope", "colspan", "rowspan"),
    *("width", "height", "loading", "tabindex", "open", "selected", "checked", "defer", "max", "title", "data-label"),
    *("method", "autocomplete", "required", "style", "aria-labelledby", "aria-hidden", "datetime", "headers"),
    *("viewbox", "x", "y", "fill", "d", "preserveaspectratio", "xmlns", "aria-describedby"),
}


class Markup(HTMLParser):
    """What a page is made of; texts that became markup are told."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag in ("iframe", "object", "embed", "base", "form") and known.get("action") not in (
            "/search",
            "/runs",
            "/compare",
            "/login",
        ):
            self.wrong.append(f"<{tag} {known}>")
        if tag == "script" and known.get("src") != "/static/live.js":
            self.wrong.append(f"<script {known}>")
        self.wrong += [f"{tag} {name}={value!r}" for name, value in attrs if name not in ATTRIBUTES]
        for name in ("href", "src", "action"):
            if (link := known.get(name)) is not None:
                self.links += [link] if name != "action" else []
                if not OURS.match(link) or link.startswith("//"):
                    self.wrong.append(f"{tag} {name}={link!r}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(text: str) -> Markup:
    parser = Markup()
    parser.feed(text)
    parser.close()
    return parser


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    filled(folder)
    return folder


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    with pages(home) as opened:
        yield opened


def test_every_page_shows_names_as_text(client: Client) -> None:
    """From the first page by every link there is, so that each name is followed where it leads."""
    waiting, seen, wrong = ["/", "/runs", "/samples", "/calibrations"], set(), {}
    shown = ""
    while waiting:
        here = waiting.pop()
        answer = client.get(here)
        seen.add(here)
        # Data without a file have no picture, and half a character no address.
        pictureless = urlsplit(here).path.endswith((".png", ".svg")) and answer.status_code in (400, 404)
        if answer.status_code != 200 and not pictureless and "%0A" not in here:  # no route takes the end of a line
            wrong[here] = [answer.text[:200]]
        if "html" not in answer.headers["content-type"]:
            continue
        markup = parsed(answer.text)
        shown += "".join(markup.text)
        if markup.wrong:
            wrong[here] = markup.wrong
        links = {urljoin(here, link.partition("#")[0]) for link in markup.links if link.startswith("/")}
        waiting += [link for link in links if link not in seen and link not in waiting]
    assert wrong == {}
    assert {"/nights", "/live"} <= seen
    assert len(seen) > 3 * len(RUNS)
    for what in ("html", "attribute", "closing", "template", "sql", "right to left"):
        assert NAMES[what] in shown, what


@pytest.mark.parametrize("what", NAMES)
def test_a_hostile_question_is_answered_in_words(client: Client, what: str) -> None:
    asked = NAMES[what][:2000].encode("utf-8", "surrogatepass")
    name = quote(asked, safe="")
    addresses = [f"/{part}/{name}" for part in ("runs", "nights", "samples", "calibrations", "static", "live")]
    addresses += [
        f"/runs/{name}/{part}" for part in ("report", "lineage", "lineage.svg", "thumbnail.png", "pictures/0")
    ]
    addresses += [f"/live/{name}/image.png", f"/{name}", f"/search?text={name}", f"/compare?a={name}&b={name}"]
    addresses += [f"/runs?{field}={name}" for field in ("text", "sample", "instrument", "analysis", "reading", "since")]
    addresses += [f"/runs?reading=mode%3D{name}", f"/runs?dose_above={name}", f"/runs?before={name}&state={name}"]
    addresses += [
        f"/calibrations?instrument={name}&kind={name}",
        f"/calibrations/plot.svg?instrument={name}&kind=x&figure={name}",
    ]
    wrong = {}
    for address in addresses:
        answer = client.get(address, follow_redirects=False)
        if answer.status_code not in (200, 307, 400, 404):
            wrong[address] = [f"{answer.status_code}"]
        location = answer.headers.get("location", "/")
        # A path that begins with two slashes would lead to another machine.
        if urlsplit(location).netloc not in ("", "127.0.0.1:8765"):
            wrong[address] = [location]
        if "html" in answer.headers.get("content-type", "") and (found := parsed(answer.text).wrong):
            wrong[address] = found
        if any(part in answer.text for part in ("Traceback", "SELECT ", "root:x:")):
            wrong[address] = [answer.text[:300]]
    assert wrong == {}


def test_numbers_that_no_row_has(client: Client) -> None:
    for number in HUGE:
        for address in (
            f"/calibrations/{number}",
            f"/calibrations/1?after={number}",
            f"/nights?before={number}",
            f"/samples?before={number}",
            f"/runs?before={number}",
            f"/search?text=a&before={number}",
            f"/runs/{RUNS[0]}/pictures/{number}",
            f"/runs/{RUNS[0]}/lineage.svg?limit={number}",
        ):
            assert client.get(address).status_code in (200, 400, 404), address


COMMANDS = {
    "runs": [],
    "show": [RUNS[0]],
    "show latest": [],
    "why latest": [],
    "cost latest": [],
    "diff": [RUNS[0], RUNS[1]],
    "lineage": [RUNS[0]],
    "search": ["alert"],
    "software": [],
    "affected 1": [],
}


def invisible(text: str) -> list[str]:
    """Characters that move a cursor, colour, ring, or turn the direction of a line."""
    return [each for each in text if each != "\n" and not each.isprintable()]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_name_writes_on_a_terminal(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(home))
    done = CliRunner().invoke(app, [*command.split(), *COMMANDS[command]])
    assert done.exit_code == 0, done.output
    assert invisible(done.stdout) == invisible(done.stderr) == []
    assert not any(line.startswith("refused: forged") for line in done.output.splitlines())


@pytest.mark.parametrize(
    "command", ["show", "why", "cost", "dose", "lineage", "search", "runs --sample", "runs --text"]
)
def test_a_hostile_argument_is_answered_in_one_line(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(home))
    wrong = {}
    for what, name in NAMES.items():
        if "\0" in name:
            continue  # no program can be given it
        done = CliRunner().invoke(app, [*command.split(), *([] if "--" in command else ["--"]), name[:5000]])
        lines = done.stderr.splitlines()
        if (
            done.exit_code not in (0, 2)
            or invisible(done.stdout)
            or invisible(done.stderr)
            or (done.exit_code and len(lines) != 1)
        ):
            wrong[what] = f"{done.exit_code} {done.output[-300:]!r} {done.exception!r}"
    assert wrong == {}


def test_the_record_has_the_names_as_they_were_given(home: Path) -> None:
    """Escaped where they are shown and not where they are kept; what no database takes is kept as its code."""
    engine = open_engine(f"sqlite:///{home}/nightbeam.db")
    with reader(engine) as session:
        assert show_run(session, name=RUNS[0])["exit_reason"] in NAMES.values()
        targets = [one["name"] for one in night_story(session)["targets"]]
    engine.dispose()
    kept = {name for name in NAMES.values() if not set(name) & set("\0\ud800\udcff")}
    assert kept <= set(targets)
    assert len(targets) == len(NAMES)
    assert unquote(quote(NAMES["html"])) in targets
