"""Every kind of page over a night that was really run: on a desk, on a phone, in the dark, without scripts."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from db.engine import open_engine, reader
from db.questions.lists import instruments, list_nights
from db.questions.runs import list_runs
from storage.settings import Settings
from tests.flows.serving import Serving, environment, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NIGHT = (
    "import sys, pathlib; from tests.flows.night_world import run_small_night as run; run(pathlib.Path(sys.argv[1]))"
)


@pytest.fixture(scope="module")
def home(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's night with small scans; after the browser, which may be missing."""
    folder = tmp_path_factory.mktemp("night")
    made = [sys.executable, "-c", NIGHT, str(folder)]
    subprocess.run(made, cwd=ROOT, env=environment(folder), check=True, capture_output=True, timeout=900)
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Serving]:
    with serving(home) as running:
        yield running


@pytest.fixture(scope="module")
def addresses(home: Path) -> dict[str, str]:
    """A page of each kind, by a name for its picture."""
    engine = open_engine(Settings(home=home).database_url.get_secret_value())
    with reader(engine) as session:
        runs = list_runs(session, limit=50).runs
        night = list_nights(session, limit=1)["nights"][0]["name"]
        ((instrument, kinds),) = instruments(session).items()
    engine.dispose()
    by_state = {one.state: one.name for one in runs}
    a, b = [one.name for one in runs if one.plan == "saturating"][:2]
    plots = {f"calibrations_{kind}": f"/calibrations?instrument={instrument}&kind={kind}" for kind in kinds[:2]}
    return {
        "home": "/",
        "nights": "/nights",
        "night": f"/nights/{night}",
        "runs": "/runs",
        "runs_filtered": "/runs?state=done&text=crystal",
        **{f"run_{state}": f"/runs/{name}" for state, name in by_state.items()},
        "lineage": f"/runs/{by_state['done']}/lineage",
        "compare": f"/compare?a={a}&b={b}",
        "calibrations": "/calibrations",
        **plots,
        "calibration": "/calibrations/1",
        "samples": "/samples",
        "sample": f"/samples/{runs[0].sample}",
        "search": "/search?text=saturat",
        "live": "/live",
        "login": "/login",
    }


@pytest.mark.parametrize("look", ["desk", "phone", "dark", "phone_dark", "no_scripts"])
def test_every_page_is_fit_to_be_shown(
    browser: "Browser", server: Serving, addresses: dict[str, str], look: str
) -> None:
    from tests.browser.browsing import DESK, PHONE, faults, page_of, shot, too_wide_px

    size, scripts = PHONE if "phone" in look else DESK, look != "no_scripts"
    wrong: dict[str, object] = {}
    with page_of(browser, server.url, size, scripts=scripts, dark="dark" in look) as page:
        for name, address in addresses.items():
            answer = page.goto(address)
            assert answer is not None
            if answer.status != 200:
                wrong[name] = answer.status
            if too_wide_px(page):
                wrong[f"{name} is too wide"] = too_wide_px(page)
            if look in ("desk", "phone", "dark") and (found := faults(page)):
                wrong[f"{name} by axe"] = found
            if scripts:
                shot(page, f"{name}-{look}")
    assert wrong == {}


def test_pictures_have_words_and_tables_say_what_is_in_them(
    browser: "Browser", server: Serving, addresses: dict[str, str]
) -> None:
    """What axe leaves open: a picture that is not there, and figures without their column's name on a phone."""
    from tests.browser.browsing import PHONE, page_of

    wrong: list[str] = []
    with page_of(browser, server.url, PHONE) as page:
        for name, address in addresses.items():
            page.goto(address)
            broken = page.evaluate(
                """async () => {
                    const all = [...document.images];
                    all.forEach(one => { one.loading = "eager"; });
                    await Promise.all(all.map(one => one.decode().catch(() => null)));
                    return all.filter(one => !one.naturalWidth).map(one => one.src);
                }"""
            )
            nameless = page.evaluate(
                """() => [...document.querySelectorAll("td")].filter(cell => {
                    const head = cell.closest("table").tHead;
                    const seen = head && head.getBoundingClientRect().width > 10;
                    const said = getComputedStyle(cell, "::before").content.replace(/["']|none|normal/g, "");
                    const title = head && head.rows[0].cells[cell.cellIndex].innerText.trim();
                    return title && !seen && !said && !cell.closest(".pairs, .story") && cell.innerText.trim();
                }).map(cell => cell.closest("table").caption.innerText + ": " + cell.innerText)"""
            )
            wrong += [f"{name}: {one}" for one in (*broken, *nameless[:3])]
    assert wrong == []


def test_keys_alone_lead_to_a_run(browser: "Browser", server: Serving) -> None:
    from tests.browser.browsing import page_of

    with page_of(browser, server.url) as page:
        page.goto("/runs")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('href')?.startsWith('/runs/r')"):
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs/r*")
        page.go_back()
        for box in page.get_by_role("checkbox", name="Compare run").all()[:2]:
            box.focus()
            page.keyboard.press("Space")
        page.get_by_role("button", name="Compare the two").focus()
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Two runs compared").wait_for()


def test_the_form_that_asks_for_the_token(browser: "Browser", home: Path) -> None:
    from tests.browser.browsing import page_of, shot
    from tests.flows.serving import TOKEN

    with serving(home, NIGHTBEAM_WEB_TOKEN=TOKEN) as server, page_of(browser, server.url) as page:
        page.goto("/runs")
        page.get_by_label("token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Latest runs").wait_for()
        shot(page, "logged_in-desk")
        (kept,) = page.context.cookies()
        assert (kept["httpOnly"], kept["sameSite"]) == (True, "Strict")
        assert TOKEN not in f"{kept} {page.evaluate('document.cookie')}"


def test_another_site_gets_nothing(browser: "Browser", server: Serving) -> None:
    """A page under another name of this machine, as one of another site is: no frame, no picture, no answer to read."""
    here = server.url.rstrip("/")
    with browser.new_context() as context:
        page = context.new_page()
        page.route(
            "http://evil.example/", lambda route: route.fulfill(body="<title>x</title>", content_type="text/html")
        )
        page.goto("http://evil.example/")
        read = page.evaluate(
            """async url => {
                const asked = fetch(url + "/live/part").then(a => a.text()).catch(() => "refused");
                const blind = fetch(url + "/live/part", { mode: "no-cors" }).then(a => a.type).catch(() => "refused");
                const shown = new Promise(done => {
                    const one = new Image(); one.onload = () => done("shown"); one.onerror = () => done("refused");
                    one.src = url + "/runs";
                });
                return [await asked, (await blind) === "opaque" || (await blind) === "refused", await shown];
            }""",
            here,
        )
        assert read == ["refused", True, "refused"]
        page.evaluate(
            "url => { const f = document.createElement('iframe'); f.src = url; document.body.append(f); }", here
        )
        frame = next(one for one in page.frames if one != page.main_frame)
        frame.wait_for_load_state()
        assert "What was measured here" not in frame.content()
