"""The settings of one command: ``nightbeam.toml`` in NIGHTBEAM_HOME, and ``NIGHTBEAM_*`` variables over it.

Nothing is read at import: a command calls ``load_settings`` once and hands the values down.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from stem4d.errors import BadInput, Inconsistent
from stem4d.maintenance import Window
from storage.compiled import keep_compiled_in
from storage.complaints import explained
from storage.dask_address import REMEDY, SAFE, is_trusted
from storage.home import unusable
from storage.parse import read_document
from storage.triggers import MOST, Hook, Watch

FILE_NAME = "nightbeam.toml"
DEFAULT_HOME = "~/.nightbeam"
_WEB_ADDRESS = r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?"


def _sqlite_in_home(known: dict[str, Any]) -> SecretStr:
    return SecretStr(f"sqlite:///{known['home'] / 'nightbeam.db'}")


class Settings(BaseSettings):
    """Everything that can be set. Secrets are never shown."""

    model_config = SettingsConfigDict(
        env_prefix="NIGHTBEAM_", extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )

    home: Path = Path(DEFAULT_HOME)
    """Folder of database, data, reports, logs and instruments."""
    database_url: SecretStr = Field(default_factory=_sqlite_in_home)
    """SQLAlchemy address; SQLite in the home folder where absent."""
    worker: Literal["child", "inline"] = "child"
    """Whether the acquisition runs in a process of its own. Inline is for debugging."""
    prefect: bool = True
    """Whether stages run as Prefect tasks; plain calls otherwise."""
    prefect_api: Literal["own", "named"] = "own"
    """Whose server shows them: our own child's or that of `nightbeam serve`, or the one PREFECT_API_URL names."""
    disk_reserve_gb: float = Field(default=2.0, ge=0, le=1e6)
    """What an acquisition leaves free on the disk [GB]."""
    accumulator_threads: int = Field(default=2, ge=1, le=64)
    notify: tuple[SecretStr, ...] = ()
    """Addresses that are told of a night's end or trouble, as Apprise writes them."""
    maintenance: tuple[Window, ...] = ()
    """When instruments are not to be used; a night ends before."""

    dask_address: str | None = Field(default=None, max_length=200)
    """Scheduler of a Dask cluster that analyses by rows: `tcp://127.0.0.1:8786`, or from elsewhere `tls://HOST:PORT`."""
    dask_tls_ca: str | None = None
    """File of the authority that signed the cluster's certificates."""
    dask_tls_cert: str | None = None
    dask_tls_key: str | None = None

    web_token: SecretStr | None = None
    """What whoever reads the pages of `nightbeam serve` from another machine has to show."""
    web_url: str | None = Field(default=None, max_length=200)
    """Where those pages are read, as `https://stem-pc.example.org:8765`: links to them begin with it."""

    watch: tuple[Watch, ...] = Field(default=(), max_length=MOST)
    """Folders in which a new file starts a deployment."""
    hooks: tuple[Hook, ...] = Field(default=(), max_length=MOST)
    """Names under which a program starts a deployment by HTTP."""
    hook_token: SecretStr | None = None
    """What such a program has to show; without it no hook is answered."""

    @field_validator("hooks")
    @classmethod
    def _named_once(cls, hooks: tuple[Hook, ...]) -> tuple[Hook, ...]:
        names = [hook.name for hook in hooks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"a name stands for one hook, and these are given twice: {', '.join(twice)}")
        return hooks

    @field_validator("home")
    @classmethod
    def _whole(cls, home: Path) -> Path:
        whole = home.expanduser().absolute()
        if "?" in str(whole):
            # The database's address would end there, and another file be opened.
            raise ValueError("the path of the home must not hold a question mark")
        return whole

    @field_validator("web_url")
    @classmethod
    def _an_address(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(_WEB_ADDRESS, url):
            # Links are shown to others: no name and password in them, and nothing that ends a link.
            raise ValueError("it has to be like https://stem-pc.example.org:8765, with neither password nor question")
        return url and url.rstrip("/")

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.dask_address is None:
            return self
        if not is_trusted(self.dask_address):
            raise Inconsistent("dask_address", self.dask_address, SAFE, REMEDY)
        for name in ("dask_tls_ca", "dask_tls_cert", "dask_tls_key"):
            if self.dask_address.startswith("tls:") and not getattr(self, name):
                remedy = "Name the files of the cluster's authority, and of our certificate and key"
                raise Inconsistent(name, getattr(self, name), "is required with a dask_address of tls://", remedy)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose contents come as arguments."""
        return env_settings, init_settings

    @property
    def data_folder(self) -> Path:
        """Where the frames go."""
        return self.home / "data"

    @property
    def results_folder(self) -> Path:
        """Where the results of analyses go."""
        return self.home / "results"

    @property
    def reports_folder(self) -> Path:
        """Where the reports go."""
        return self.home / "reports"

    @property
    def instruments_folder(self) -> Path:
        """Locks and safety reports of the instruments."""
        return self.home / "instruments"


def instrument_folders(settings: Settings) -> list[Path]:
    """The folder of every instrument that was used here, by name.

    Raises
    ------
    BadInput
        What they lie in is no folder, or may not be read.
    """
    try:
        return sorted(path for path in settings.instruments_folder.iterdir() if path.is_dir())
    except FileNotFoundError as error:
        if settings.instruments_folder.is_symlink():
            raise unusable(error) from None
        return []
    except OSError as error:
        raise unusable(error) from None


def load_settings() -> Settings:
    """The settings as they stand now.

    Raises
    ------
    BadInput
        ``nightbeam.toml`` or a variable holds an unknown name or an unusable value.
    """
    home = Path(os.environ.get("NIGHTBEAM_HOME", DEFAULT_HOME)).expanduser()
    keep_compiled_in(home)
    file = home / FILE_NAME
    document = read_document(file) if file.exists() else {}
    if "home" in document:
        remedy = "Set NIGHTBEAM_HOME, and keep the file there"
        raise BadInput(field=f"{file}: home", value=document["home"], limit="is where this file lies", remedy=remedy)
    try:
        return Settings(**document, home=home)
    except SettingsError as error:
        # Its words name the variable; those of its cause may hold what was given.
        limit = f"cannot be read: {str(error).partition(' from source')[0]}"
        remedy = "A list is written as JSON: NIGHTBEAM_NOTIFY='[\"mailto://...\"]'"
        raise BadInput(field="NIGHTBEAM_*", value="(hidden)", limit=limit, remedy=remedy) from None
    except ValidationError as error:
        raise explained(error, Settings, f"{FILE_NAME} or NIGHTBEAM_*") from None
