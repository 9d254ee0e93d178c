"""Commands about the provenance database itself: db status, db upgrade."""

from typing import TYPE_CHECKING

from flows.cli.answer import AsJson, Code, command, print_json

if TYPE_CHECKING:
    from db.migrations import Schema


@command
def status(as_json: AsJson = False) -> Code:
    """Say which schema the database has and which this nightbeam needs.

    Example: nightbeam db status
    """
    from db import migrations

    found = migrations.status(_url())
    return _tell(found, as_json)


@command
def upgrade(as_json: AsJson = False) -> Code:
    """Bring the database, empty or of an older release, to this nightbeam's schema.

    Example: nightbeam db upgrade
    """
    from db import migrations

    return _tell(migrations.upgrade(_url()), as_json)


def _url() -> str:
    from storage.settings import load_settings

    settings = load_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    return settings.database_url.get_secret_value()


def _tell(found: "Schema", as_json: bool) -> Code:
    if as_json:
        print_json({"found": found.found, "needed": found.needed, "state": found.state})
    else:
        print(f"{found.state}: schema {found.found or 'none'}, this nightbeam needs {found.needed}")
    return Code.DONE if found.state == "current" else Code.WARNINGS
