"""The stage that writes a run's page, and the page of a night; a page that cannot be written never ends a night.

What draws is loaded when the first page is written: a second that no run has to spend before its exposure.
"""

from pathlib import Path

from db.engine import Engine
from stem4d.errors import NightbeamError
from stem4d.instrument import InstrumentFacts
from storage.settings import Settings
from tasks.lab import Lab, lab
from tasks.stage import stage


@stage("report")
def report_run(instrument: str, run: str) -> str | None:
    """Write the page of a run; gives its path, or None where it could not be written."""
    opened = lab(instrument)
    if opened.recorder.waiting:
        opened.owed.append(lambda: _run_page(opened, run))
        opened.show("report later", f"the page of {run} is written when the database is back", run)
        return None
    return _run_page(opened, run)


def _run_page(opened: Lab, run: str) -> str | None:
    if trouble := page_again(opened.settings, opened.engine, run, opened.file.facts):
        opened.warn("report failed", trouble, run)
        return None
    return str(_page(opened.settings, run))


def write_night(opened: Lab, name: str) -> Path | None:
    """Write the page of a night, or None where it could not be written."""
    if opened.recorder.waiting:
        opened.owed.append(lambda: write_night(opened, name))
        return None
    from web.report.assemble import write_night_report

    try:
        return write_night_report(opened.engine, name, _folder(opened))
    except (NightbeamError, OSError) as error:
        opened.show("report failed", f"the page of {name} could not be written: {error}")
        return None


def write_calibrations(opened: Lab, run: str) -> Path | None:
    """Write the page of the calibrations that a run measured, or None where it could not be written."""
    if opened.recorder.waiting:
        opened.owed.append(lambda: write_calibrations(opened, run))
        return None
    from web.report.calibrations import write_calibration_report

    try:
        return write_calibration_report(opened.engine, run, _folder(opened))
    except (NightbeamError, OSError) as error:
        opened.show("report failed", f"the page of the calibrations of {run} could not be written: {error}")
        return None


def page_again(settings: Settings, engine: Engine, run: str, instrument: InstrumentFacts | None = None) -> str:
    """Write the page of a run, with an instrument's facts where one is at hand; gives why it could not be."""
    from web.report.assemble import write_run_report

    try:
        settings.reports_folder.mkdir(parents=True, exist_ok=True)
        write_run_report(engine, run, settings.reports_folder, instrument)
    except (NightbeamError, OSError) as error:
        return f"the page of {run} could not be written: {error}"
    return ""


def page_renewed(settings: Settings, engine: Engine, run: str) -> str:
    """Write the page of a run again where it has one; gives why it could not be."""
    return page_again(settings, engine, run) if _page(settings, run).is_file() else ""


def _page(settings: Settings, run: str) -> Path:
    return settings.reports_folder / f"{run}.html"


def _folder(opened: Lab) -> Path:
    opened.settings.reports_folder.mkdir(parents=True, exist_ok=True)
    return opened.settings.reports_folder
