"""The command that says whether this machine can run a night, and what to do where it cannot."""

from flows.cli.answer import AsJson, Code, command, print_json


@command
def doctor(as_json: AsJson = False) -> Code:
    """Check versions, modules, drivers, disk, clock, database, Prefect's server, watchdog and messages, with the fix.

    Example: nightbeam doctor
    """
    from flows.examine.looks import LOOKS
    from storage.settings import load_settings

    settings = load_settings()
    lines = [line for look in LOOKS for line in look(settings)]
    if as_json:
        print_json([line._asdict() for line in lines])
    else:
        for line in lines:
            print(line.text)
    return Code.DONE if all(line.ok for line in lines) else Code.FAILED
