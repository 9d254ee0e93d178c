"""The pages of `serve`: each is there, says what the record says, links on, and lets no text become markup."""

from html import escape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urljoin

import pytest

from tests.db.mended_world import FIRST, SECOND
from tests.web.view_world import HOSTILE, filled, pages


class Links(HTMLParser):
    """Addresses that a page leads to or loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view")
    filled(folder)
    return folder


def test_every_link_of_every_page_leads_somewhere(home: Path) -> None:
    seen: dict[str, int] = {}
    with pages(home) as client:
        waiting = ["/"]
        while waiting:
            here = waiting.pop()
            answer = client.get(here)
            seen[here] = answer.status_code
            if not answer.headers["content-type"].startswith("text/html"):
                continue
            parser = Links()
            parser.feed(answer.text)
            found = {urljoin(here, link.partition("#")[0]) for link in parser.found if not link.startswith("data:")}
            waiting += [link for link in found if link not in seen and link not in waiting]
    assert set(seen.values()) == {200}, {link: s for link, s in seen.items() if s != 200}
    for kind in ("/nights/", "/runs/", "/calibrations/", "/samples/", "/compare?", "/calibrations/plot.svg?"):
        assert any(link.startswith(kind) for link in seen), (kind, seen)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/", [SECOND, "n20261122-204139-0001", "Nothing runs now"]),
        ("/nights/latest", ["first", "re-exposed", FIRST, SECOND, "mended by: dwell time us"]),
        ("/runs?state=stopped", [FIRST]),
        ("/runs?text=satur&verdict=", [FIRST]),
        (f"/runs/{SECOND}", ["cannot read the plan", "The attempt before", "gold-on-carbon", "72"]),
        (f"/runs/{SECOND}/lineage", ["specimen gold-on-carbon", "attempt before"]),
        (f"/compare?a={FIRST}&b={SECOND}", ["attempt", "frames"]),
        (f"/compare?run={FIRST}&run={SECOND}", ["attempt"]),
        ("/samples/gold-on-carbon", ["a1", "43", "57"]),
        ("/search?text=gold", ["gold-on-carbon", "No run has these words"]),
        ("/live", ["Nothing runs now"]),
    ],
)
def test_a_page_says_what_the_record_says(home: Path, address: str, words: list[str]) -> None:
    with pages(home) as client:
        answer = client.get(address)
    assert answer.status_code == 200
    for each in words:
        assert each in answer.text, each


def test_the_filters_leave_out_what_does_not_hold(home: Path) -> None:
    with pages(home) as client:
        assert SECOND not in client.get("/runs?state=stopped").text
        assert FIRST not in client.get("/runs?dose_above=10").text


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/runs/r0", 404, FIRST),
        ("/nights/n0", 404, "n20261122-204139-0001"),
        ("/samples/gold", 404, "gold-on-carbon"),
        ("/calibrations/999", 404, "none of this number"),
        ("/calibrations/x", 400, "number"),
        ("/calibrations?instrument=nope&kind=centre", 404, "simulator"),
        ("/runs?reading=defocus", 400, "NAME"),
        ("/runs?since=yesterday", 400, "a day"),
        ("/runs?state=lost", 400, "crashed"),
        ("/runs?before=1e9", 400, "number"),
        ("/runs?dose_above=nan", 400, "a number"),
        ("/compare?a=r0", 400, "two"),
        (f"/runs/{FIRST}/pictures/7", 404, "has 0"),
        (f"/runs/{FIRST}/report", 404, "no report"),
        ("/search?text=%27%22--", 400, "words"),
        ("/live/nope/image.png", 404, "nothing is to be seen"),
        ("/static/../app.py", 404, "no such page"),
        ("/nope", 404, "no such page"),
    ],
)
def test_what_is_not_there_or_cannot_be_asked_is_said(home: Path, address: str, status: int, words: str) -> None:
    with pages(home) as client:
        answer = client.get(address)
    assert (answer.status_code, "Traceback" in answer.text) == (status, False)
    assert words in answer.text


@pytest.mark.parametrize("address", ["/", "/nights", "/nights/latest"])
def test_no_text_becomes_markup(home: Path, address: str) -> None:
    with pages(home) as client:
        text = client.get(address).text
    assert escape(HOSTILE) in text.replace("&#34;", "&quot;")
    assert "<script>alert" not in text


@pytest.mark.parametrize(
    "given",
    ["<img src=x onerror=alert(1)>", '"><script>alert(1)</script>', "../../etc/passwd", "a\nb", "\u202egnp", "%00"],
)
@pytest.mark.parametrize("place", ["/runs/{}", "/nights/{}", "/samples/{}", "/search?text={}", "/runs?sample={}"])
def test_what_a_person_sends_does_not_become_markup(home: Path, place: str, given: str) -> None:
    with pages(home) as client:
        answer = client.get(place.format(quote(given, safe="")))
    assert answer.status_code in (200, 400, 404)
    assert "<img src=x" not in answer.text
    assert "<script>alert" not in answer.text


def test_a_database_that_is_away_is_said(home: Path, tmp_path: Path) -> None:
    filled(tmp_path)
    with pages(tmp_path) as client:
        (tmp_path / "nightbeam.db").rename(tmp_path / "elsewhere.db")
        answer = client.get("/")
    assert answer.status_code == 503
    assert "cannot be read now" in answer.text


def test_pages_have_one_title_and_one_first_heading(home: Path) -> None:
    with pages(home) as client:
        for address in ("/", "/runs", f"/runs/{SECOND}", "/live", "/calibrations", "/samples", "/nope"):
            text = client.get(address).text
            assert text.count("<h1") == text.count("<title>") == text.count("<main") == 1, address
