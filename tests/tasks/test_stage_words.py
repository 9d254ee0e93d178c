"""A stage that fails in words is logged without the way through the code; a bug keeps it."""

import logging

import pytest

import tasks.stage
from stem4d.errors import DeviceFault


class Kept(logging.Handler):
    """What reached the log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.mark.parametrize(("error", "traced"), [(DeviceFault("the detector is gone"), False), (KeyError("bug"), True)])
def test_errors_in_words_have_no_traceback(error: Exception, traced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tasks.stage
    log, kept = logging.getLogger("prefect.task_runs"), Kept()
    # Prefect's own handlers want a flow that runs.
    monkeypatch.setattr(log, "handlers", [kept])
    monkeypatch.setattr(log, "propagate", False)
    try:
        raise error
    except type(error):
        log.exception("Task run failed with exception")
    (record,) = kept.records
    assert bool(record.exc_info) is traced
