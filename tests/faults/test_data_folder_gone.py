"""F6: the folder of the data can no longer be written; nothing is exposed, and the reason names the folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.run import run_plan
from stem4d.night import TargetState
from tests.flows.night_world import column_log, small, small_lab


def replaced(folder: Path) -> None:
    """Somebody has put a file there."""
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def dangling(folder: Path) -> None:
    """A link to a disk that is not there."""
    shutil.rmtree(folder)
    folder.symlink_to(folder.parent / "unplugged" / "data")


@pytest.mark.parametrize("gone", [replaced, dangling])
def test_nothing_is_exposed_where_the_data_cannot_go(tmp_path: Path, gone: Callable[[Path], None]) -> None:
    with small_lab(tmp_path) as opened:
        gone(opened.settings.data_folder)
        outcome = run_plan(opened, small("1_overview.yaml", 16), with_prefect=False)
    assert outcome.state in (TargetState.FAILED, TargetState.REFUSED)
    assert str(tmp_path / "data") in outcome.reason
    assert "unblank" not in {one["event"] for one in column_log(tmp_path)}
