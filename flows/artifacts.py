"""Hands artifacts to Prefect: figures and picture of a run, what came of a night. None is waited for long."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate

from db.engine import reader
from db.questions.show import show_run
from flows.artifact_text import TargetEnd, night_markdown, quality_rows, run_markdown
from flows.flow_run import flow_run_here
from flows.markdown import escaped
from tasks.lab import Lab
from tasks.within import within

LONGEST_S = 5.0
"""Prefect's client tries again for 30 s; nothing waits for it that long."""
PICTURE_PX = 192

T = TypeVar("T")


def key_of(what: str, name: str) -> str:
    """A key as Prefect wants it: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{what}-{name}".lower()).strip("-")


def show_figures(opened: Lab, run: str) -> None:
    """The quality of a run as a table, and what it was, with a picture, as a page of its flow run."""
    here = flow_run_here()
    if here is None or opened.prefect_away:
        return
    flow_run = here.id
    if opened.recorder.waiting:
        opened.owed.append(lambda: hand_over(opened, lambda: _of_run(opened, run, flow_run)))
    else:
        hand_over(opened, lambda: _of_run(opened, run, flow_run))


def show_night(
    opened: Lab, flow_run: UUID, name: str, title: str, reason: str, ended: list[TargetEnd], page: Path | None
) -> None:
    """What came of the targets of a night, with the way to its page."""
    text = night_markdown(name, title, reason, ended, page, opened.settings.web_url)
    hand_over(
        opened, lambda: (_markdown(key_of("night", name), f"What came of {name}: {escaped(title)}", text, flow_run),)
    )


def hand_over(opened: Lab, make: Callable[[], tuple[ArtifactCreate, ...]]) -> tuple[UUID, ...]:
    """Make artifacts and give them to Prefect; gives their ids, none where that did not work.

    Trouble is told once: then nothing is attempted until Prefect has begun another flow.
    """
    if opened.prefect_away:
        return ()
    shown, trouble = _attempted(lambda: _shown(make()))
    if trouble:
        away(opened, trouble)
    return shown or ()


def show_table(key: str, description: str, rows: list[dict[str, Any]]) -> str:
    """A table of the flow run that this is called in; gives why it is not shown, empty where it is."""
    here = flow_run_here()
    flow_run = here.id if here else None
    made = ArtifactCreate(key=key, type="table", description=description, data=rows, flow_run_id=flow_run)
    _ids, trouble = _attempted(lambda: _shown((made,)))
    return trouble and f"Prefect could not be shown {description} ({trouble.partition(':')[0]})"


def tag_flow_run(opened: Lab, labels: Iterable[str]) -> None:
    """Add tags to the flow run that this is called in, which a deployment has begun without them."""
    here, wanted = flow_run_here(), set(labels)
    if here is None or not wanted:
        return

    def add() -> None:
        with get_client(sync_client=True) as client:
            known = set(client.read_flow_run(here.id).tags)
            client.update_flow_run(here.id, tags=sorted(known | wanted))

    _none, trouble = _attempted(lambda: within(LONGEST_S, "nightbeam-artifacts", add))
    if trouble:
        away(opened, trouble)


def away(opened: Lab, why: str) -> None:
    """Say once that nothing more is shown to Prefect."""
    if not opened.prefect_away:
        opened.prefect_away = f"Prefect could not be shown what was done ({why})"
        opened.warn("prefect", f"{opened.prefect_away}; everything goes on without it")


def _attempted(what: Callable[[], T]) -> tuple[T | None, str]:
    """What came of it, or why nothing did: Prefect only looks on, and no run ends for it."""
    try:
        return what(), ""
    except Exception as error:  # noqa: BLE001 - whatever Prefect, its client or a file says
        return None, f"{type(error).__name__}: {error}"


def _shown(made: tuple[ArtifactCreate, ...]) -> tuple[UUID, ...]:
    return within(LONGEST_S, "nightbeam-artifacts", lambda: _create(made))


def _create(made: tuple[ArtifactCreate, ...]) -> tuple[UUID, ...]:
    with get_client(sync_client=True) as client:
        return tuple(client.create_artifact(one).id for one in made)


def _of_run(opened: Lab, run: str, flow_run: UUID) -> tuple[ArtifactCreate, ...]:
    # What draws is loaded with the first page, after the first exposure.
    from web.report.assemble import plan_of
    from web.report.facts import run_report
    from web.view.pictures import picture_of_run

    with reader(opened.engine) as session:
        facts = show_run(session, name=run)
        picture = picture_of_run(session, run, PICTURE_PX)
    plan = plan_of(facts)
    report = run_report(facts, plan, (), "")
    page = opened.settings.reports_folder / f"{run}.html"
    called = f"{run}: {escaped(report.plan_title or report.plan)}, {escaped(report.sample)}, {escaped(report.area)}"
    text = run_markdown(report, plan, picture, page if page.is_file() else None, opened.settings.web_url)
    return (
        ArtifactCreate(
            key=key_of("quality", run),
            type="table",
            description=f"Quality of {called}",
            data=quality_rows(report),
            flow_run_id=flow_run,
        ),
        _markdown(key_of("run", run), f"What was done in {called}", text, flow_run),
    )


def _markdown(key: str, what: str, text: str, flow_run: UUID) -> ArtifactCreate:
    return ArtifactCreate(key=key, type="markdown", description=what, data=text, flow_run_id=flow_run)
