"""Files held against their ledgers, and against what the database recorded of them."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from db.questions.files import RecordedFile
from flows.files import Asked, Database, recorded_of
from stem4d.errors import BadInput
from storage.disk import sha256_of_file
from storage.verify import Verified, verify_file

OnBytes = Callable[[Path, int], None]


@dataclass(frozen=True)
class Checked:
    """What came of one file."""

    path: Path
    verified: Verified | None
    """None where there is no file, or none that can be verified."""
    recorded: RecordedFile | None
    troubles: tuple[str, ...]
    """Why it is not sound; empty where it is."""
    refused: BadInput | None = None
    """Why it could not be verified."""
    named: bool = True
    """Named by itself: of a folder, what is none of ours is passed over."""

    @property
    def sound(self) -> bool:
        """Whether it is as it was written, and as it was recorded."""
        return self.verified is not None and not self.troubles

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        one, recorded = self.verified, self.recorded
        found = one.findings if one else None
        return {
            "file": str(self.path),
            "sound": self.sound,
            "troubles": list(self.troubles),
            "refused": self.refused.as_dict() if self.refused else None,
            "state": one.state if one else None,
            "complete": found is not None and found.how == "finished" and found.recorded == found.positions,
            "bytes": one.bytes if one else None,
            "seconds": round(one.seconds, 3) if one else None,
            "mb_per_s": round(one.megabytes_per_s, 1) if one else None,
            "sha256": one.sha256 if one else None,
            "findings": asdict(found) if found else None,
            "recorded": {
                "run": recorded.run,
                "dataset": recorded.dataset_id,
                "sha256": recorded.sha256,
                "size_bytes": recorded.size_bytes,
                "frames": recorded.frames,
            }
            if recorded
            else None,
        }


def check_files(known: Database, asked: tuple[Asked, ...], on_bytes: OnBytes) -> Iterator[Checked]:
    """Each file, one after the other, as it is done."""
    for one in asked:
        yield _checked(known, one, on_bytes)


def _checked(known: Database, one: Asked, on_bytes: OnBytes) -> Checked:
    path = one.path
    recorded = recorded_of(known, path)
    if recorded and not path.exists():
        return Checked(path, None, recorded, (f"{recorded.run} is recorded to have it here, and it is not there",))
    try:
        found = verify_file(path, hashed=recorded is not None, on_bytes=lambda read: on_bytes(path, read))
    except BadInput as refused:
        # A file of ours that is none any more is damaged; any other was not for us to verify.
        troubles = (f"it cannot be read at all: {refused}",) if recorded else ()
        return Checked(path, None, recorded, troubles, None if recorded else refused, one.named)
    digest = found.sha256
    if recorded is None and found.findings is not None:
        recorded = recorded_of(known, path, found.findings.run)
        digest = sha256_of_file(path) if recorded else None
    return Checked(path, found, recorded, (*found.troubles, *_differs(found, digest, recorded)))


def _differs(found: Verified, digest: str | None, recorded: RecordedFile | None) -> Iterator[str]:
    """What of a file is not as the database has it."""
    if recorded is None:
        return
    whose = f"recorded for {recorded.run}, dataset {recorded.dataset_id}"
    if found.bytes != recorded.size_bytes:
        yield f"it has {found.bytes:,} B, and {recorded.size_bytes:,} B were {whose}"
    if digest != recorded.sha256:
        yield f"its SHA-256 is {str(digest)[:16]}..., and {recorded.sha256[:16]}... was {whose}"
    if found.findings is not None and found.findings.recorded != recorded.frames:
        yield f"its ledger has {found.findings.recorded:,} frames, and {recorded.frames:,} were {whose}"
