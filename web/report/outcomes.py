"""The pictures of a run's analyses, from their results files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stem4d.errors import NightbeamError
from storage.results import read_results
from web.report.figures.canvas import as_picture
from web.report.figures.outcome import outcome_map
from web.report.values import Plate

MOST_PICTURES = 12
"""Of one analysis: the file has all of them."""


def outcome_plates(analyses: Iterable[dict[str, Any]]) -> tuple[Plate, ...]:
    """A plate for the latest result of each method that has pictures; what cannot be read says so in its place."""
    latest = {one["method"]: one for one in analyses if one["summary"] and "results_sha256" in one["summary"]}
    plates = []
    for method, one in latest.items():
        title = f"{method}: {one['verdict'].replace('_', ' ')}"
        try:
            found = read_results(Path(one["path"])).outcome
        except (NightbeamError, OSError) as error:
            plates.append(Plate(title, (), f"{one['reason']} Its pictures cannot be shown: {error}"))
            continue
        if found.pictures:
            pictures = tuple(as_picture(outcome_map(picture)) for picture in found.pictures[:MOST_PICTURES])
            left = len(found.pictures) - len(pictures)
            more = f" {left} more stand in {one['path']}." if left else ""
            plates.append(Plate(title, pictures, f"{one['reason']}{more}"))
    return tuple(plates)
