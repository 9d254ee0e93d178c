"""The pages: whole, escaped, self-contained, readable without colours, and never saying None or nan."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from web.report.render import render_night, render_run
from web.report.values import (
    AnalysisOutcome,
    CalibrationUsed,
    Cost,
    DataFile,
    DoseAccount,
    EvidenceGroup,
    EvidenceShown,
    Exposure,
    Judgement,
    NightReport,
    Parameter,
    Picture,
    Plate,
    RemedyTaken,
    RunLink,
    RunReport,
    StoryLine,
    TargetLine,
)

WHEN = datetime(2026, 11, 22, 21, 4, 13, tzinfo=UTC)
NASTY = "<script>alert(1)</script> \"double\" 'single' & {{ 7 * 7 }} </style>"
PICTURE = Picture(NASTY, NASTY, "image/png", b"\x89PNG", 440, 260)

REFUSED = RunReport(
    run="r20261122-210413-7f3a",
    plan="refused",
    plan_title="",
    plan_sha256="ab" * 32,
    sample="glass",
    area="hole-1",
    instrument="demo",
    state="refused",
    verdict=None,
    exit_reason="2 hard findings",
    attempt=1,
    started=WHEN,
    ended=None,
    findings=(Judgement("scan.overlap", "ptychography", 0.1, 0.6, "", "fail", "No overlap."),),
    missing_pictures="There are no pictures: no frame was recorded.",
)
FULL = replace(
    REFUSED,
    plan_title=NASTY,
    state="mended",
    verdict="warn",
    exit_reason=NASTY,
    story=(StoryLine(WHEN, NASTY, NASTY),),
    parameters=(Parameter("optics", NASTY, NASTY, ""), Parameter("scan", "step", 0.04, "nm")),
    quality=(
        Judgement("descan.range", None, 0.28, 1.0, "px", "pass", NASTY, 0.02),
        Judgement("drift.rate", "com", None, None, "nm/min", "not_measurable", "One pass only."),
        Judgement("saturation.disk", "com", float("nan"), 1e-4, "", "fail", "Saturated."),
        Judgement("dose.electrons", "virtual", 3.0, 1.0, "", "warn", "Brighter than set."),
        Judgement("frames.missing", "virtual", 0.0, 0.01, "", "pass", "All recorded."),
        Judgement("drift.rate", None, None, None, "nm/min", "not_measurable", "One pass only."),
    ),
    calibrations=(CalibrationUsed("disk", "disk", {"centre_px": [1.0, None]}, None, "px", "pass", WHEN, "fresh"),),
    remedies=(RemedyTaken("saturation.disk", "reduce_dwell", {"dwell_time_us": 100.0}, None, NASTY, NASTY),),
    doses=(DoseAccount("glass", "hole-1", 30.0, 1.0, 20.0, 19.0),),
    exposures=(Exposure("acquisition", "hole-1", WHEN, 20.0, None, None, None),),
    predicted=Cost(42.0, 1000, 20.0),
    actual=Cost(),
    files=(DataFile(NASTY, 10, "cd" * 32, (2, 3, 4, 5), "uint16", False),),
    analyses=(AnalysisOutcome("com", "not_possible", NASTY, (("curl", None),)),),
    plates=(Plate(NASTY, (PICTURE,), NASTY),),
    evidence=(
        EvidenceGroup(
            NASTY,
            (EvidenceShown(PICTURE, "fail", ((NASTY, "fail", NASTY),), NASTY),),
            (EvidenceShown(PICTURE, "pass", (("frames missing", "pass", "seen in the fold"),)),),
        ),
    ),
    missing_pictures="",
)
NIGHT = NightReport(
    night="n20261122-205959-00ff",
    title=NASTY,
    instrument="demo",
    state="done",
    exit_reason=None,
    started=WHEN,
    ended=None,
    sha256="ef" * 32,
    targets=(
        TargetLine(0, "good", "good", "done", "done", None, (), Cost(1.0, 10, 2.0), Cost(2.0, 10, 2.0),
                   (RunLink("r1", "done", "pass", "r1.html"), RunLink("r2", "done", "pass", None))),
        TargetLine(1, "bad", "bad", "refused", "done", NASTY, (), Cost(1.0, 10, 2.0), Cost(), ()),
    ),
    story=(StoryLine(WHEN, "night_started", NASTY, "good"),),
    doses=(DoseAccount("glass", "hole-1", 30.0, 0.0, 20.0, 40.0),),
    predicted=Cost(2.0, 20, None),
    actual=Cost(3.0, 20, None),
    plates=(Plate("Time line", (PICTURE,)),),
)  # fmt: skip


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text outside of style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text.append(data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


PAGES = {"full": render_run(FULL), "refused": render_run(REFUSED), "night": render_night(NIGHT)}
ALL_PAGES = pytest.mark.parametrize("html", PAGES.values(), ids=PAGES.keys())


@ALL_PAGES
def test_page_is_well_formed_and_self_contained(html):
    page = Page(html)
    assert page.every("script") == []
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href"):
            address = attrs.get(name)
            assert address is None or address.startswith(("data:", "#")) or re.fullmatch(r"r\w+\.html", address)
    assert "url(" not in html
    assert "@import" not in html


@ALL_PAGES
def test_page_never_says_none_or_nan(html):
    assert not re.search(r"\b(None|nan|NaN|inf)\b", Page(html).words())


@ALL_PAGES
def test_page_can_be_used_without_eyes_or_mouse(html):
    page = Page(html)
    assert page.every("html")[0]["lang"] == "en"
    assert len(page.every("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in page.every("img"))
    assert len(page.every("table")) == len(page.every("caption"))
    assert all("scope" in header for header in page.every("th"))
    anchors = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {link["href"][1:] for link in page.every("a") if link["href"].startswith("#")} <= anchors


@pytest.mark.parametrize("name", ["full", "night"])
def test_text_from_outside_is_inert(name):
    page = Page(PAGES[name])
    assert "<script>alert" not in PAGES[name]
    assert "7 * 7" in page.words()
    assert 'alert(1)</script> "double"' in page.words()
    assert NASTY in [image["alt"] for image in page.every("img")]


def test_verdicts_are_words():
    words = Page(PAGES["full"]).words()
    for word in ("mended", "warning", "not measurable", "not possible", "pass", "fail"):
        assert word in words


def test_headline_says_which_analysis_and_what_is_unknown():
    words = Page(PAGES["full"]).words()
    start = words[: words.index("Verdicts")]
    assert "com ✕ fail" in start
    assert "virtual ! warning" in start
    assert "Not measured: drift rate." in start


def test_what_passed_is_folded_away():
    page = PAGES["full"]
    unfolded, folded = page.split("<details>")[0], page.split("<details>")[1].split("</details>")[0]
    assert "All recorded." in folded
    assert "Saturated." not in folded
    assert "All recorded." not in unfolded
    assert "2 of 6 figures are within their limits" in folded


def test_what_was_not_measured_says_so():
    words = Page(PAGES["full"]).words()
    assert words.count("not measured") >= 6
    assert "not judged" in Page(PAGES["refused"]).words()


def test_refused_run_says_why_and_what_is_missing():
    words = Page(PAGES["refused"]).words()
    for said in ("2 hard findings", "No overlap.", "no frame was recorded", "did not expose", "No file was written"):
        assert said in words


def test_quality_is_listed_worst_first():
    words = Page(PAGES["full"]).words().partition("Quality of the data")[2]
    assert words.index("saturation disk") < words.index("drift rate") < words.index("descan range")


def test_night_links_the_pages_that_exist_and_names_the_others():
    page = Page(PAGES["night"])
    assert [link["href"] for link in page.every("a") if not link["href"].startswith("#")] == ["r1.html"]
    words = page.words()
    assert "r2" in words
    assert "no run" in words
    assert "expected to end as done" in words


def test_night_shows_an_overdrawn_area():
    assert "−10" in Page(PAGES["night"]).words()


def test_same_values_give_the_same_page():
    assert render_run(FULL) == PAGES["full"]
