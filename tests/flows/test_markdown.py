"""Texts of people are shown by markdown as they are: no mark, link, picture or HTML comes of any."""

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flows.artifacts import key_of
from flows.cli.order_text import approval_line
from flows.markdown import MOST_TEXT, escaped, rows_of
from stem4d.errors import BadInput
from stem4d.names import plainly
from stem4d.night import Approval
from storage.documents import validate

RENDERED = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def shown(markdown: str) -> str:
    """What stands in the one paragraph that it renders to."""
    html = RENDERED.render(markdown)
    found = re.fullmatch(r"<p>(.*)</p>\n", html, re.DOTALL)
    assert found, html
    return unescape(found[1])


@pytest.mark.parametrize(
    "text",
    [
        "[x](javascript:alert(1))",
        "![x](http://example.org/x.png)",
        "<script>alert(1)</script>",
        "&lt;b&gt;",
        "# big",
        "1. one",
        "1) one",
        "- one",
        "+ one",
        "> said",
        "=====",
        "a | b",
        "`code` ~~gone~~ **bold** __bold__",
        "\\*a",
        "https://example.org www.example.org a@b.example",
        "[a]: http://example.org",
    ],
)
def test_marks_of_people_are_text(text: str) -> None:
    assert shown(escaped(text)) == text


@given(st.text(max_size=80))
def test_any_text_is_shown_as_it_is_on_one_line(text: str) -> None:
    plain = plainly(" ".join(text.split()))
    if plain:
        assert shown(escaped(text)) == plain


@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=2))
def test_a_cell_stays_a_cell(cells: list[str]) -> None:
    html = RENDERED.render(rows_of(("a", "b"), (tuple(escaped(cell) or "–" for cell in cells),)))
    found = [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", html)]
    assert found == [plainly(" ".join(cell.split())) or "–" for cell in cells]


def test_a_bare_address_is_no_link_for_those_who_make_them_of_any() -> None:
    assert "https://" not in escaped("https://example.org")
    assert "www." not in escaped("WWW.example.org www.example.org").lower()


def test_a_long_text_is_cut() -> None:
    assert len(escaped("a" * 10_000)) == MOST_TEXT
    assert escaped("a" * 10_000).endswith(" …")


@given(st.text(min_size=1, max_size=30))
def test_keys_are_lower_case_digits_and_dashes(name: str) -> None:
    assert re.fullmatch(r"quality(-[a-z0-9]+)*", key_of("quality", name))


def test_a_night_says_before_it_is_asked_for_what_it_will_ask() -> None:
    policy = Approval(before=("night", "remedy"), wait_min=10.0)
    assert approval_line(policy) == (
        "asks a person in Prefect before its first target and each remedy, 10 min each; "
        "without an answer, its first target: the night stops; each remedy: it is not tried"
    )


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"before": []}, "before"),
        ({"before": ["lunch"]}, "before"),
        ({"before": ["night"], "wait_min": 0}, "wait_min"),
        ({"before": ["night"], "otherwise": "maybe"}, "otherwise"),
        ({}, "before"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(document: dict[str, object], field: str) -> None:
    with pytest.raises(BadInput, match=field):
        validate(document, Approval, "approval")
