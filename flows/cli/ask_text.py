"""What the questions to the record print: differences, lineage, what was found, doses, costs, why a night ended."""

from collections.abc import Iterator
from typing import Any

from flows.cli.said import say, say_table
from web.report.tables import metric
from web.report.text import byte_size, duration, number

Facts = dict[str, Any]
_PARTS = {
    "run": "run",
    "plan": "plan",
    "settings": "settings before the exposure",
    "calibrations": "calibrations",
    "software": "software",
}


def print_diff(facts: Facts) -> None:
    """What differs, part by part."""
    a, b = facts["a"], facts["b"]
    same = [words for part, words in _PARTS.items() if not facts[part]]
    for part, words in _PARTS.items():
        if facts[part]:
            say(f"{words}:")
            rows = [(one["name"], _value(one["a"], one["unit"]), _value(one["b"], one["unit"])) for one in facts[part]]
            say_table(("", a, b), rows)
            say()
    if facts["quality"]:
        say("quality:")
        say_table(
            ("", a, b), [(_figure_name(one["name"]), _figure(one, "a"), _figure(one, "b")) for one in facts["quality"]]
        )
        say()
    if not facts["quality"]:
        same.append("quality")
    if same:
        say(f"no difference in: {', '.join(same)}")


def _figure_name(name: str) -> str:
    what, _, analysis = name.partition(" for ")
    return f"{metric(what)} for {analysis}" if analysis else metric(what)


def _figure(one: Facts, side: str) -> str:
    verdict = one[f"verdict_{side}"]
    if verdict is None:
        return "-"
    return f"{_value(one[side], one['unit'])} {verdict.replace('_', ' ')}"


def _value(value: Any, unit: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict) and "id" in value:
        return f"number {value['id']} of {value['measured_at'][:16]}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{value}"
    return f"{number(value) if isinstance(value, float) else value} {unit}".rstrip()


def print_lineage(facts: Facts) -> None:
    """What it came from and what came of it, as two trees; what stands in one twice is not opened again."""
    labels = {one["key"]: _label(one) for one in facts["nodes"]}
    root = facts["root"]
    for title, near, far in (("from", "to", "from"), ("of it came", "from", "to")):
        # What belongs to the other tree is on the other side of the root, and is not reached from here.
        say(f"{labels[root]}, {title}:")
        lines = list(_branches(facts["edges"], labels, root, near, far, "", {root}))
        for line in lines or ["  nothing that is recorded"]:
            say(line)
        say()
    if facts["truncated"]:
        say(f"Only the nearest {len(facts['nodes'])} are shown: --limit shows more.")


def _branches(
    edges: list[Facts], labels: dict[str, str], at: str, near: str, far: str, indent: str, seen: set[str]
) -> Iterator[str]:
    following = [one for one in edges if one[near] == at]
    for count, one in enumerate(following, 1):
        last = count == len(following)
        key = one[far]
        again = key in seen
        more = " (see above)" if again and any(other[near] == key for other in edges) else ""
        yield f"{indent}{'└─' if last else '├─'} {labels[key]} [{one['role']}]{more}"
        if not again:
            seen.add(key)
            yield from _branches(edges, labels, key, near, far, f"{indent}{'   ' if last else '│  '}", seen)


def _label(node: Facts) -> str:
    return f"{node['label']}: {node['state'].replace('_', ' ')}" if node["state"] else node["label"]


def print_found(facts: Facts) -> None:
    """What has the words, kind by kind."""
    for plural in ("samples", "plans", "nights", "targets", "calibrations"):
        if facts.get(plural):
            say(f"{plural}:")
            for one in facts[plural]:
                say(f"  {_found(plural, one)}".rstrip())
    say("runs:" if facts["runs"] else "no run has these words")
    for one in facts["runs"]:
        say(f"  {one['name']}  {one['started'][:16]}  {one['state']}. {one['exit_reason'] or ''}".rstrip())
    if facts["next_before"] is not None:
        say(f"more: --before {facts['next_before']}")


def _found(plural: str, one: Facts) -> str:
    if plural == "calibrations":
        what = f"number {one['id']}  {one['kind']} of {one['instrument']}, {one['measured_at'][:16]}"
        return f"{what}: {one['verdict']}. {one['reason'] or ''}"
    if plural == "targets":
        return f"{one['name']} of {one['night']}: {one['state']}. {one['reason'] or ''}"
    if plural == "nights":
        return f"{one['name']}: {one['state']}. {one['exit_reason'] or ''}"
    return f"{one['name']}" + (f"  sha256 {one['sha256'][:16]}..." if "sha256" in one else "")


def print_dose(facts: Facts) -> None:
    """The areas of a specimen with what they received."""
    say(f"specimen {facts['sample']}, registered {facts['registered'][:16]} UTC; fluences in e/Å²")
    rows = [
        (
            one["name"],
            number(one["delivered_e_per_a2"]),
            number(one["reserved_e_per_a2"]),
            number(one["fluence_budget_e_per_a2"]),
            number(one["left_e_per_a2"]),
            one["runs"],
        )
        for one in facts["areas"]
    ]
    say_table(("area", "delivered", "reserved", "budget", "left", "runs"), rows)


def print_why(facts: Facts) -> None:
    """Why a night ended, and what it did not get."""
    say(f"night {facts['night']}: {facts['state']}. {facts['exit_reason'] or ''}".rstrip())
    counts = ", ".join(f"{count} {state}" for state, count in facts["counts"].items())
    say(f"targets: {counts or 'none'}")
    for one in facts["not_got"]:
        how = (
            " (as expected)"
            if one["as_expected"]
            else " (the same night may go on with it)"
            if one["broken_off"]
            else ""
        )
        say(f"  {one['name']}: {one['state']}{how}. {one['reason'] or ''}".rstrip())
    if facts["last_events"]:
        say("the last that was told:")
    for one in facts["last_events"]:
        say(f"  {one['time'][11:19]}  {one['kind']:<20} {one['message']}")


def print_cost(facts: Facts) -> None:
    """Predicted against actual, run by run."""
    lines = facts.get("runs", [facts])
    heads: tuple[str, ...] = ("run", "target", "state")
    for cost in ("time", "data", "e/Å²"):
        heads += (f"{cost} predicted", "actual")
    rows = [
        (
            one["run"],
            one["target"] or "-",
            one["state"],
            *(duration(one[side]["seconds"]) for side in ("predicted", "actual")),
            *(byte_size(one[side]["bytes"]) for side in ("predicted", "actual")),
            *(number(one[side]["fluence_e_per_a2"]) for side in ("predicted", "actual")),
        )
        for one in lines
    ]
    say_table(heads, rows)
    for one in facts.get("targets", []):
        if one["actual_seconds"] is not None:
            took = f"{duration(one['actual_seconds'])}, {duration(one['predicted_seconds'])} predicted"
            say(f"target {one['target']}: {took}, calibrations and further attempts included")
    if "sums" in facts:
        time, fluence = facts["sums"]["seconds"], facts["sums"]["fluence_e_per_a2"]
        say(
            f"of {time['runs']} run(s) with both: {duration(time['actual'])}, {duration(time['predicted'])} predicted; "
            f"{number(fluence['actual'])} e/Å², {number(fluence['predicted'])} predicted"
        )


def print_software(facts: Facts) -> None:
    """Each change of software with the first run that had it."""
    for one in facts["environments"]:
        first = f"first run {one['first_run']} of {one['first_started'][:16]}" if one["first_run"] else "no run"
        say(f"Python {one['python']}, revision {one['code_revision'][:12] or 'unknown'}: {first}")
        for name, change in one["changed"].items():
            say(f"  {name}: {change['from'] or 'absent'} to {change['to'] or 'absent'}")
    if facts["next_before"] is not None:
        say(f"more: --before {facts['next_before']}")
