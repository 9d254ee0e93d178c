"""What every page has in common: templates, one look at the database, the addresses of other pages."""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from db.engine import reader
from storage.settings import Settings
from web.report.render import FILTERS
from web.report.tables import metric, plain
from web.report.text import byte_size, number, quantity

if TYPE_CHECKING:
    from db.engine import Session

PLACES = {"run": "/runs", "night": "/nights", "calibration": "/calibrations", "sample": "/samples"}


def session_of(request: Request) -> Iterator["Session"]:
    """A look at the database for the length of one request."""
    with reader(request.app.state.engine) as session:
        yield session


Asked = Annotated[Any, Depends(session_of)]
"""The session of a request."""


def settings_of(request: Request) -> Settings:
    """The settings that the server was started with."""
    settings: Settings = request.app.state.settings
    return settings


def address(kind: str, name: object) -> str:
    """The page of a run, night, calibration or specimen."""
    return f"{PLACES[kind]}/{_in_address(name)}"


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page by its template."""
    shown = {"here": request.url.path, **values}
    text = environment().get_template(template).render(shown)
    # Half a character, as of a path that is no UTF-8, is shown by its code.
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status_code=status)


def further(request: Request, **changes: object) -> str:
    """The address of this page with other values in its query."""
    query = {**request.query_params, **changes}
    return f"{request.url.path}?{urlencode({name: value for name, value in query.items() if value is not None})}"


@cache
def environment() -> Environment:
    """Our templates, beside those of the reports, whose parts they use."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader("web.view", "templates"), PackageLoader("web.report", "templates")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        FILTERS,
        moment=_moment,
        urlencode=_in_address,
        plain=plain,
        number=number,
        quantity=quantity,
        byte_size=byte_size,
        metric=metric,
        run_page=lambda name: address("run", name),
        night_page=lambda name: address("night", name),
        calibration_page=lambda name: address("calibration", name),
        sample_page=lambda name: address("sample", name),
    )
    return made


def _in_address(value: object) -> str:
    """A value as a part of an address; half a character by its code."""
    return quote(str(value), safe="", errors="backslashreplace")


def _moment(at: str | datetime | None) -> str:
    """A stored time to the minute; the page says once that it is UTC."""
    if at is None:
        return "–"
    return f"{datetime.fromisoformat(at) if isinstance(at, str) else at:%Y-%m-%d %H:%M}"
