"""What every Prefect task of ours has in common: never cached, never retried by itself, only ids in its result."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from tasks.lab import settle

P = ParamSpec("P")
R = TypeVar("R")


def stage(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task named as a microscopist would name the step; its first argument is the instrument."""

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        @wraps(function)
        def settled(*args: P.args, **kwargs: P.kwargs) -> R:
            done = function(*args, **kwargs)
            settle(str(args[0]))
            return done

        options: dict[str, Any] = {"retries": 0, "cache_policy": NO_CACHE, "persist_result": False}
        return task(name=name, **options)(settled)

    return decorate
