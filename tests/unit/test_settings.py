"""Settings come from GRIDYARD_… variables, then gridyard.toml, then the laptop's defaults; wrong ones say so."""

from pathlib import Path

import pytest

from jobs import settings
from jobs.errors import InputError, SettingsError
from jobs.retry import delay_seconds


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder and an environment without settings."""
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"GRIDYARD_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_need_nothing_installed(clean: Path) -> None:
    loaded = settings.load()
    assert loaded.db_url == f"sqlite:///{clean}/.gridyard/gridyard.db"
    assert loaded.broker_url.startswith("memory://")
    assert loaded.store_url == f"{clean}/.gridyard/store"
    assert loaded.max_cells == 1_000_000
    assert loaded.look_every == 0.25


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clean / "gridyard.toml").write_text('max_cells = 10\nbroker = "redis://one"\nthreads = 2\n')
    monkeypatch.setenv("GRIDYARD_MAX_CELLS", "20")
    loaded = settings.load(threads=3)
    assert (loaded.max_cells, loaded.broker_url, loaded.threads) == (20, "redis://one", 3)
    assert loaded.look_every == 5.0  # a broker rings; a look is only a second line


def test_an_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDYARD_MAXCELLS", "20")
    with pytest.raises(
        SettingsError, match='there is no setting GRIDYARD_MAXCELLS; did you mean "GRIDYARD_MAX_CELLS"'
    ) as caught:
        settings.load()
    assert "Settings: GRIDYARD_HOME, GRIDYARD_DB, GRIDYARD_BROKER" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "hint"),
    [("GRIDYARD_LEESE", '; did you mean "GRIDYARD_LEASE_SECONDS"?'), ("GRIDYARD_BOGUS", ". Settings: ")],
)
def test_only_a_name_that_is_near_is_suggested(variable: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "3")
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert f"there is no setting {variable}{hint}" in str(caught.value)


def test_an_unknown_name_in_the_file_names_the_nearest(clean: Path) -> None:
    (clean / "gridyard.toml").write_text('brokr = "redis://one"\n')
    with pytest.raises(SettingsError, match="there is no setting 'brokr'; did you mean \"broker\""):
        settings.load()


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MAX_CELLS", "0", "allowed is a number, at least 1"),
        ("MAX_CELLS", "many", "allowed is a whole number"),
        ("DEVICE", "tpu", "allowed are auto, cpu, mps, cuda"),
        ("LEASE_SECONDS", "0", "allowed is a number, above 0"),
        ("LEASE_SECONDS", "abc", "allowed is a number"),
        ("THREADS", "1.5", "allowed is a whole number"),
        ("COMPILE", "perhaps", "allowed is true or false"),
    ],
)
def test_a_wrong_value_is_named_with_the_place_where_it_is_set_and_what_is_allowed(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"GRIDYARD_{name}", value)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert f"GRIDYARD_{name} (or {name.lower()} in gridyard.toml) = '{value}': {allowed}" in str(caught.value)


def test_every_wrong_setting_is_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDYARD_THREADS", "0")
    monkeypatch.setenv("GRIDYARD_DEVICE", "tpu")
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert len(str(caught.value).splitlines()) == 2


def test_a_heartbeat_slower_than_the_lease_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDYARD_HEARTBEAT_SECONDS", "20")
    with pytest.raises(SettingsError, match=r"heartbeat_seconds = 20\.0 must be less than lease_seconds = 20\.0"):
        settings.load()


@pytest.mark.parametrize("text", ["max_cells = ", "max_cells = 1\nmax_cells = 2\n", "x = " + "9" * 5000])
def test_a_file_that_is_not_toml_says_so(text: str, clean: Path) -> None:
    (clean / "gridyard.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"^gridyard\.toml: "):
        settings.load()


def test_a_file_that_is_not_utf8_says_so(clean: Path) -> None:
    (clean / "gridyard.toml").write_bytes(b'home = "\xff"\n')
    with pytest.raises(InputError, match=r"^gridyard\.toml: "):
        settings.load()


@pytest.mark.parametrize("broker", ["", "redis://one"])
def test_by_default_a_killed_workers_job_is_at_work_again_within_30_seconds(broker: str) -> None:
    """Killed right after a heartbeat, and the broker is away: the lease, a round of the scheduler, the longest look."""
    loaded = settings.load(broker=broker)
    longest_look = 1.2 * loaded.look_every
    assert loaded.lease_seconds + loaded.tick_seconds + delay_seconds(1) + longest_look < 30
    assert loaded.lease_seconds >= 5 * loaded.heartbeat_seconds  # and no worker loses its jobs by a hiccup
    # A beat that meets a dead connection gives it up, connects again, and still renews in time; twice, if need be.
    assert 2 * (loaded.heartbeat_seconds + loaded.lease_seconds / 3) < loaded.lease_seconds


def test_the_spool_lies_at_home_unless_it_is_told_where(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().spool_folder == clean / ".gridyard" / "spool"
    monkeypatch.setenv("GRIDYARD_SPOOL", str(clean / "volume"))
    assert settings.load().spool_folder == clean / "volume"
