"""The command that watches the folders of the settings by itself: watch."""

from threading import Event

from flows.cli.answer import Code, command


@command
def watch() -> Code:
    """Start a deployment for each new file in the folders of the setting `watch`; Ctrl+C ends it.

    Example: nightbeam watch
    """
    from flows.reached import reached
    from stem4d.errors import BadInput
    from storage.settings import load_settings

    settings = load_settings()
    if not settings.watch:
        remedy = "Add [[watch]] to nightbeam.toml: docs/triggers.md"
        raise BadInput(field="watch", value="nothing", limit="no folder is to be watched", remedy=remedy)
    with reached(settings.home):
        from flows.watching import watch as follow

        for one in settings.watch:
            print(f"watching {one.folder}, {one.pattern} starts {one.deployment} (Ctrl+C ends it)", flush=True)
        follow(settings, Event())
    return Code.DONE
