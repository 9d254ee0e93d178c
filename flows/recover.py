"""What crashes left: frames saved file by file, and each new file recorded with its run."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flows.files import Asked, Database
from stem4d.errors import BadInput, NightbeamError
from storage.salvage import NotSaved, Salvaged, recovered_path, salvage
from storage.settings import Settings
from tasks.recovered import Registered, register_recovered

OnBytes = Callable[[Path, int], None]
State = Literal["recovered", "recovered before", "hopeless", "refused", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    source: Path
    state: State
    saved: Salvaged | None = None
    registered: Registered | None = None
    words: str = ""
    """Why nothing was saved, or why what was saved is not recorded."""

    @property
    def whole(self) -> bool:
        """Whether nothing that was flushed is lost, and nothing is left to do."""
        if self.state == "recovered":
            return self.saved is not None and self.saved.whole and not self.words
        return self.state == "recovered before"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        saved, registered = self.saved, self.registered
        return {
            "source": str(self.source),
            "state": self.state,
            "whole": self.whole,
            "words": self.words,
            "recovered": {
                "path": str(saved.path),
                "sha256": saved.sha256,
                "bytes": saved.bytes,
                "frames": saved.frames,
                "flushed": saved.findings.recorded,
                "carved": saved.carved,
                "seconds": round(saved.seconds, 3),
                "source_sha256": saved.source_sha256,
                "findings": asdict(saved.findings),
            }
            if saved
            else None,
            "registered": {
                "run": registered.run,
                "dataset": registered.recovered_id,
                "made_from": registered.source_id,
            }
            if registered
            else None,
        }


def recover_files(
    settings: Settings, known: Database, asked: tuple[Asked, ...], folder: Path | None, on_bytes: OnBytes
) -> Iterator[Outcome]:
    """Each file, one after the other, as it is done."""
    for one in asked:
        if not one.named and not one.path.exists():
            # A file that was recovered once and thrown away since.
            continue
        if not one.named and recovered_path(one.path, folder).exists():
            yield Outcome(one.path, "recovered before", words=str(recovered_path(one.path, folder)))
        else:
            yield _recovered(settings, known, one.path, folder, on_bytes)


def _recovered(settings: Settings, known: Database, path: Path, folder: Path | None, on_bytes: OnBytes) -> Outcome:
    try:
        saved = salvage(
            path,
            folder=folder,
            reserve_bytes=int(settings.disk_reserve_gb * 1e9),
            on_bytes=lambda read: on_bytes(path, read),
        )
    except BadInput as error:
        return Outcome(path, "refused", words=str(error))
    except NotSaved as error:
        return Outcome(path, "hopeless", words=str(error))
    except NightbeamError as error:
        return Outcome(path, "failed", words=str(error))
    if known.engine is None:
        return Outcome(path, "recovered", saved, words=f"not recorded: {known.away}" if known.away else "")
    try:
        return Outcome(path, "recovered", saved, register_recovered(known.engine, saved))
    except NightbeamError as error:
        return Outcome(path, "recovered", saved, words=f"not recorded: {error}")
