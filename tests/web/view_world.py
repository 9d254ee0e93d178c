"""A record with one of everything, and the pages over it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from db import record
from db.engine import open_engine, writer
from storage.settings import Settings
from tests.db.db_world import Ticking, World
from tests.db.mended_world import mended_once
from web.view.app import make_app
from web.view.guard import Guard

HOSTILE = '<script>alert("x")</script>'
"""Of a reason, which devices and people write."""


class Client:
    """Asks an application as a browser does, keeping its cookies; an error that nobody caught is raised."""

    def __init__(self, app: FastAPI) -> None:
        self._app, self._cookies = app, httpx.Cookies()

    def request(self, method: str, address: str, *, follow_redirects: bool = True, **asked: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            base = "http://127.0.0.1:8765"
            async with httpx.AsyncClient(transport=transport, base_url=base, cookies=self._cookies) as client:
                answer = await client.request(method, address, follow_redirects=follow_redirects, **asked)
                self._cookies = client.cookies
                return answer

        return asyncio.run(send())

    def get(self, address: str, **asked: Any) -> httpx.Response:
        return self.request("GET", address, **asked)

    def post(self, address: str, **asked: Any) -> httpx.Response:
        return self.request("POST", address, **asked)


@contextmanager
def pages(home: Path, guard: Guard | None = None) -> Iterator[Client]:
    """A client of the pages of a home."""
    settings = Settings(home=home)
    engine = open_engine(settings.database_url.get_secret_value())
    try:
        yield Client(make_app(settings, engine, guard))
    finally:
        engine.dispose()


def filled(home: Path) -> World:
    """A home with a night of one target, which was mended, and a second night whose end has a hostile text."""
    url = Settings(home=home).database_url.get_secret_value()
    engine = open_engine(url)
    clock = Ticking()
    with writer(engine) as session:
        sample = record.register_sample(session, name="gold-on-carbon", clock=clock)
        area = record.register_area(session, sample_id=sample, name="a1", fluence_budget_e_per_a2=100.0, clock=clock)
        plan = record.register_plan(session, name="case-a", canonical_json='{"defocus_nm":-12.5}', clock=clock)
        night = record.start_night(session, name="n20261122-204139-0001", canonical_json='{"targets":[]}', clock=clock)
        target = record.add_target(session, night_id=night, position=0, name="first", plan_id=plan)
        run = record.start_run(
            session, name="r20261122-204139-0001", plan_id=plan, area_id=area, instrument="simulator",
            target_id=target, predicted=record.Cost(60.0, 2**40, 40.0), clock=clock,
        )  # fmt: skip
    world = mended_once(World(engine, url, clock, sample, area, plan, night, target, run))
    with writer(engine) as session:
        record.finish_night(session, night_id=night, state="stopped", exit_reason=HOSTILE)
    engine.dispose()
    return world
