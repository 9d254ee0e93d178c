"""Commands that take a run out of the record, and hold what was taken out against it: export, verify-crate."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.answer import AsJson, Code, command, print_json
from flows.cli.said import say


@command
def export(
    run: Annotated[str, typer.Argument(help="A run (r...), however it ended.")],
    to: Annotated[
        Path | None, typer.Option(help="New folder, or new file that ends in .zip; RUN.crate here where absent.")
    ] = None,
    without_frames: Annotated[
        bool, typer.Option("--without-frames", help="Leave the data files where they are.")
    ] = False,
    licence: Annotated[str, typer.Option(help="Licence of the data, best as an address.")] = "",
    as_json: AsJson = False,
) -> Code:
    """Write a run as an RO-Crate: data, plan, calibrations, quality, report, provenance.

    Example: nightbeam export r20260301-221500-ab12 --to run.zip
    """
    from flows.export import UNLICENSED, export_run
    from flows.recorded import recorded_database
    from storage.settings import load_settings

    settings = load_settings()
    target = to or Path(f"{run}.crate")
    with recorded_database(settings) as engine:
        frames = not without_frames
        left_out = export_run(engine, settings, run, target, with_frames=frames, licence=licence or UNLICENSED)
    if as_json:
        print_json({"run": run, "crate": str(target), "left_out": left_out})
    else:
        say(f"{run} is in {target}")
        for line in left_out:
            say(f"not in it: {line}")
    return Code.WARNINGS if left_out else Code.DONE


@command
def verify_crate(
    crate: Annotated[Path, typer.Argument(help="A folder or zip file that `export` wrote.")], as_json: AsJson = False
) -> Code:
    """Hold a crate against its own description and against the record; nothing is unpacked or fetched.

    Example: nightbeam verify-crate run.zip
    """
    from flows.export import check_crate
    from flows.recorded import recorded_database
    from storage.settings import load_settings

    with recorded_database(load_settings()) as engine:
        run, troubles, remark = check_crate(engine, crate)
    if as_json:
        print_json({"run": run, "crate": str(crate), "troubles": troubles, "remark": remark})
    else:
        good = f"as it describes itself; {remark}" if remark else "as it is in the record"
        say(f"{crate}: {run} {good}" if not troubles else f"{crate}: {run}, which differs:")
        for line in troubles:
            say(f"  {line}")
    return Code.FAILED if troubles else Code.DONE
