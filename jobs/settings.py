"""Every setting and its meaning: from `GRIDYARD_…` variables, else `gridyard.toml`, else the laptop defaults."""

import os
import re
from pathlib import Path
from typing import Any, Self

import platformdirs
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from jobs.errors import SettingsError, did_you_mean, nearest
from jobs.refusal import allowed
from jobs.retry import MOST_LOST
from jobs.urls import conceal, given, masked

PREFIX = "GRIDYARD_"
URLS = ("db", "broker", "store")  # settings that may hold a password


def default_data_folder() -> Path:
    """A cache folder of the user."""
    return Path(platformdirs.user_cache_dir("gridyard"))


def default_cache_folder() -> Path:
    """Beside the data sets that lie in their own default place."""
    return default_data_folder() / "decoded"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, toml_file="gridyard.toml", extra="forbid", frozen=True)

    home: Path = Field(Path(".gridyard"), description="folder of the embedded database and store")
    db: str = Field("", description="database URL; empty: SQLite in `home`")
    broker: str = Field("", description="Celery broker URL; empty: none, workers look at the table")
    store: str = Field("", description="folder or fsspec URL of checkpoints and models; empty: `home`/store")
    spool: str = Field("", description="folder where results wait while the database is away; empty: `home`/spool")
    data: Path = Field(default_factory=default_data_folder, description="folder of the data sets")
    files: str = Field(
        "",
        description="folders besides `data` of whose files jobs may be made, separated by `:`, or `*` for all; "
        "empty: all with SQLite, none with PostgreSQL",
    )
    cache: Path = Field(
        default_factory=default_cache_folder,
        description="folder of decoded data sets and measured sizes of packs",
    )
    tasks: str = Field("", description="modules of the user's own tasks: `my_task` or `my_task,other:Name`")
    device: str = Field("auto", description="where trainers compute")
    threads: int = Field(1, ge=1, description="CPU threads of one trainer; more may change the last digits of results")
    compile: bool = Field(
        False,
        description="torch.compile networks that train one at a time; may change the last digits of results",
    )
    max_cells: int = Field(1_000_000, ge=1, description="the most cells of one grid")
    lease_seconds: float = Field(20.0, gt=0, description="how long a claim lives without a heartbeat")
    heartbeat_seconds: float = Field(2.0, gt=0, description="between two heartbeats of a worker")
    look_seconds: float = Field(
        0.0, ge=0, description="between two looks at the table; 0: 0.25 without a broker, else 5"
    )
    most_lost: int = Field(MOST_LOST, ge=1, description="a job with which so many workers were lost is set aside")
    tick_seconds: float = Field(1.0, gt=0, description="between two rounds of the scheduler")
    grace_seconds: float = Field(10.0, ge=0, description="from SIGTERM until a worker is gone, whatever it is doing")
    offline_seconds: float = Field(600.0, ge=0, description="how long a trainer goes on while the database is away")
    checkpoint_seconds: float = Field(
        2.0, ge=0, description="at least this long between two checkpoints; 0: after each epoch"
    )
    small_model_bytes: int = Field(1 << 20, ge=0, description="best models up to this size are kept in the database")
    slots_per_gpu: int = Field(1, ge=1, description="slots that a worker has for each GPU it sees")
    monitor: str = Field(
        "", description="HOST:PORT or PORT where the scheduler serves /metrics and /healthz; empty: nowhere"
    )
    health_file: str = Field("", description="file that a worker touches with each heartbeat; empty: none")
    log: str = Field("text", description="lines of the services: text, or json")

    keep_best: int = Field(
        100,
        ge=0,
        description="so many best models of a sweep are kept, unless its file says `keep`",
    )
    keep_last: bool = Field(False, description="likewise, last checkpoints of succeeded jobs are kept")

    @field_validator("broker")
    @classmethod
    def _is_a_broker(cls, url: str) -> str:
        if url and not re.match(r"(redis|rediss|redis\+socket|sentinel|amqp|amqps)://.", url):
            raise ValueError("allowed are redis://HOST:PORT/0, rediss://…, redis+socket://…, sentinel://…, amqp(s)://…")
        if not url.startswith("sentinel"):  # several hosts
            _check_port(url)
        return url

    @field_validator("monitor")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        match = re.fullmatch(r"(?:(.+):)?([0-9]{1,5})", address)
        if address and (match is None or not 0 < int(match[2]) < 65_536):
            raise ValueError("allowed are a port, such as 9464 (on 127.0.0.1), and HOST:PORT, such as 0.0.0.0:9464")
        return address

    @field_validator("log")
    @classmethod
    def _is_a_format(cls, log: str) -> str:
        if log not in ("text", "json"):
            raise ValueError("allowed are text and json")
        return log

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", device):
            raise ValueError("allowed are auto, cpu, mps, cuda and cuda:0, cuda:1, …")
        return device

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @model_validator(mode="after")
    def _lease_outlives_a_heartbeat(self) -> Self:
        if self.heartbeat_seconds >= self.lease_seconds:
            given = f"heartbeat_seconds = {self.heartbeat_seconds}"
            raise ValueError(f"{given} must be less than lease_seconds = {self.lease_seconds}; a third of it is good")
        return self

    @property
    def db_url(self) -> str:
        return self.db or f"sqlite:///{self.home.resolve() / 'gridyard.db'}"

    @property
    def broker_url(self) -> str:
        return self.broker or "memory://localhost"

    @property
    def store_url(self) -> str:
        return self.store or str(self.home.resolve() / "store")

    @property
    def monitor_address(self) -> tuple[str, int] | None:
        """Host and port of /metrics and /healthz; None: they are not served."""
        host, _, port = self.monitor.rpartition(":")
        return (host.strip("[]") or "127.0.0.1", int(port)) if self.monitor else None

    @property
    def trainer_grace_seconds(self) -> float:
        """A trainer that was told to stop may take so long for its batch and its checkpoint; then it is killed."""
        return 0.75 * self.grace_seconds

    @property
    def worker_grace_seconds(self) -> float:
        """A worker that was told to stop goes after so long without having recorded all."""
        return 0.95 * self.grace_seconds

    @property
    def spool_folder(self) -> Path:
        return Path(self.spool or self.home / "spool").resolve()

    @property
    def readable(self) -> str:
        """As `files`, never empty: a path that comes from the database leads nowhere else, or to the data folder."""
        return self.files or ("*" if self.db_url.startswith("sqlite") else str(self.data.absolute()))

    @property
    def look_every(self) -> float:
        """Seconds between two looks at the jobs table."""
        return self.look_seconds or (5.0 if self.broker else 0.25)


def load(**overrides: Any) -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: a value is wrong, or a name is unknown.
    """
    names = list(Settings.model_fields)
    for variable in sorted(os.environ):
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and name not in names:
            variables = {name: PREFIX + name.upper() for name in names}
            near = nearest(name, names)  # the prefix, which all have, makes none nearer
            hint = f'; did you mean "{variables[near]}"?' if near else "."
            raise SettingsError(f"there is no setting {variable}{hint} Settings: {', '.join(variables.values())}")
    try:
        loaded = Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_message(error, names)) from None
    except ValueError as error:  # gridyard.toml is not TOML
        raise SettingsError(f"gridyard.toml: {error}") from None
    for url in URLS:
        conceal(getattr(loaded, url))
    return loaded


def _check_port(url: str) -> None:
    """A password with an unquoted / or # ends the host too early, and drivers then tell of a part of it."""
    netloc = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0]
    port = re.sub(r"^\[[^]]*\]", "", netloc.rpartition("@")[2]).partition(":")[2]
    if port and not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError("its port is no number; in a password write % / ? # @ : as %25 %2F %3F %23 %40 %3A")


def _message(error: ValidationError, names: list[str]) -> str:
    lines = []
    for problem in error.errors():
        name = str(next(iter(problem["loc"]), ""))
        if not name:  # of several settings together
            lines.append(problem["msg"].removeprefix("Value error, "))
        elif problem["type"] == "extra_forbidden":
            lines.append(f"there is no setting {name!r}{did_you_mean(name, names)} Settings: {', '.join(names)}")
        else:
            shown = given(repr(problem["input"])) if name in URLS else masked(repr(problem["input"]))
            lines.append(f"{PREFIX}{name.upper()} (or {name} in gridyard.toml) = {shown}: {allowed(problem)}")
    return "\n".join(lines)
