"""What every Prefect task of ours has in common: never cached, never retried by itself, only ids in its result."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from stem4d.errors import NightbeamError
from storage.crash import crash_point
from tasks.lab import settle

P = ParamSpec("P")
R = TypeVar("R")


def worth_reading(record: logging.LogRecord) -> bool:
    """Prefect says of each run and task that it began and ended, and shows where in the code it failed.

    The story of the run says the first better; of an error that is said in words, the words are enough.
    """
    if record.levelno < logging.WARNING and record.module in ("task_engine", "flow_engine", "flow_runs"):
        return False
    if record.exc_info and isinstance(record.exc_info[1], NightbeamError):
        record.exc_info = record.exc_text = None
    return True


logging.getLogger("prefect.task_runs").addFilter(worth_reading)


def stage(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task named as a microscopist would name the step; its first argument is the instrument."""

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        @wraps(function)
        def step(*args: P.args, **kwargs: P.kwargs) -> R:
            crash_point(f"before {name}")
            done = function(*args, **kwargs)
            crash_point(f"after {name}")
            settle(str(args[0]))
            return done

        options: dict[str, Any] = {"retries": 0, "cache_policy": NO_CACHE, "persist_result": False}
        return task(name=name, **options)(step)

    return decorate
