"""What `verify` and `recover` print of a file: words and figures."""

from flows.recover import Outcome
from flows.verify import Checked
from storage.findings import Findings, in_words

_ENDED = {
    "final": "closed under its final name",
    "incomplete": "closed as incomplete",
    "recovered": "recovered",
    "partial": "partial",
}


def print_checked(one: Checked) -> None:
    """A file that was verified."""
    if one.refused is not None:
        print(f"{one.path}: {'NOT VERIFIED' if one.named else 'passed over'}. {one.refused}")
        return
    ended = f", {_ENDED[one.verified.state]}" if one.verified else ""
    print(f"{one.path}: {'sound' if one.sound else 'NOT SOUND'}{ended}")
    for trouble in one.troubles:
        print(f"    {trouble}")
    if one.verified is None:
        return
    if one.verified.findings is not None:
        print(f"    {_counts(one.verified.findings)}")
    if one.recorded is not None and one.sound:
        print(f"    size, SHA-256 and frames as recorded for {one.recorded.run}, dataset {one.recorded.dataset_id}")
    elif one.recorded is None:
        print("    no dataset of the database: compared with its own ledger only")
    found = one.verified
    print(f"    {found.bytes / 1e6:,.1f} MB in {found.seconds:.2f} s: {found.megabytes_per_s:,.0f} MB/s")


def _counts(found: Findings) -> str:
    states = f"{found.ok:,} ok, {found.missing:,} missing, {found.duplicate:,} duplicate, {found.corrupt:,} corrupt"
    return f"{found.positions:,} positions, as recorded {states}; {found.intact:,} of {found.recorded:,} frames intact"


def print_outcome(one: Outcome) -> None:
    """A file that was recovered, or was not."""
    if one.state == "recovered before":
        print(f"{one.source}: recovered before, see {one.words}")
        return
    if one.saved is None:
        # The words of some errors begin with the file.
        print(f"{one.state}: {one.words}" if str(one.source) in one.words else f"{one.source}: {one.words}")
        return
    saved, found = one.saved, one.saved.findings
    print(f"{one.source}: {saved.frames:,} of {found.recorded:,} flushed frames saved")
    print(f"    as {saved.path}, {saved.bytes / 1e6:,.1f} MB")
    for positions, words in (
        (found.damaged, "corrupt now"),
        (found.lost, "lost"),
        (found.ledger_cut, "not known any more, their part of the ledger is cut off"),
        (found.unvouched, "in the file without an entry in the ledger, left out"),
    ):
        if positions:
            print(f"    {words}: positions {in_words(positions)}")
    if saved.carved:
        print(f"    {saved.carved:,} of them the index had lost; they were found by their own bytes")
    print(f"    by the old ledger {found.missing:,} positions were missing and {found.corrupt:,} corrupt")
    print("    the old file is as it was")
    if one.registered is not None:
        made = f"dataset {one.registered.recovered_id}, made from {one.registered.source_id}"
        print(f"    recorded for {one.registered.run}: {made}")
    elif one.words:
        print(f"    {one.words}")
    else:
        print("    of no run in the database: not recorded")
