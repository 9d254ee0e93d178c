"""The attempts at a target in words: what was seen, what was tried, what it cost, what came of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from web.report.tables import Cell, Table, chip, metric, plain
from web.report.text import duration, quantity

Facts = Mapping[str, Any]
"""One attempt as ``db.questions.attempts`` tells of it."""


def attempts(items: Sequence[Facts]) -> Table:
    """All attempts of the target that a run is one of."""
    rows = tuple(
        (
            Cell(f"{one['attempt']}. {one['run']}, {one['area']}"),
            Cell(chip=chip(one["state"])),
            Cell(seen_words(one)),
            Cell(tried_words(one)),
            Cell(quantity(one["fluence_e_per_a2"], "e/A2"), figure=True),
            Cell(duration(one["seconds"]), figure=True),
        )
        for one in items
    )
    headers = ("Attempt, area", "Came to", "Seen", "Tried next", "Fluence it cost", "Time it took")
    return Table("Attempts at this target", headers, rows)


def attempts_lines(items: Sequence[Facts]) -> Iterator[str]:
    """The same for a screen, a line for each thing that is known of an attempt, and the sum."""
    for one in items:
        verdict = (one["verdict"] or "not judged").replace("_", " ")
        yield f"attempt {one['attempt']}    {one['run']} on {one['area']}: {one['state']}, {verdict}"
        yield f"             seen: {seen_words(one)}"
        yield f"             cost: {quantity(one['fluence_e_per_a2'], 'e/A2')}, {duration(one['seconds'])}"
        if one["tried"]:
            yield f"             tried next: {tried_words(one)}"
    fluences = [one["fluence_e_per_a2"] for one in items]
    if len(items) > 1 and None not in fluences:
        yield f"in all       {quantity(sum(fluences), 'e/A2')} in {len(items)} attempts"


def seen_words(one: Facts) -> str:
    """What failed, with figure and limit; how it ended where nothing was judged to fail."""
    told = [_figure(each) for each in one["seen"]]
    if told:
        return "; ".join(dict.fromkeys(told))
    return "nothing failed" if one["state"] == "done" else one["exit_reason"] or "nothing failed"


def tried_words(one: Facts) -> str:
    """The remedies that were chosen, with what each changed, was expected to cost, and was for."""
    return "; ".join(_tried(each) for each in one["tried"]) or "nothing"


def _figure(one: Facts) -> str:
    value = quantity(one["value"], one["unit"])
    limit = f" (limit {quantity(one['limit_value'], one['unit'])})" if one["limit_value"] is not None else ""
    return f"{metric(one['metric'])} {value}{limit}"


def _tried(one: Facts) -> str:
    action = str(one["action"]).replace("_", " ")
    change = f", {plain(one['from_value'])} to {plain(one['to_value'])}" if one["to_value"] is not None else ""
    return f"{action}{change}, for {metric(one['cause_metric'])}; {one['cost']}"
