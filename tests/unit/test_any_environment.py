"""Whatever the environment and gridyard.toml hold, there are settings or a SettingsError, and no password in it."""

import os
import string
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from db.session import Database, missing_file
from jobs import settings
from jobs.errors import GridyardError, InputError, SettingsError
from workers import bell

NAMES = st.sampled_from([name.upper() for name in settings.Settings.model_fields])
WORDS = st.sampled_from(
    ["", "0", "-1", "1e400", "nan", "inf", "true", "cpu", "cuda:x", "*", "/", "..", "redis://", "[]", "{"]
)
URLS = st.builds(
    "{}://{}:{}@{}{}".format,
    st.sampled_from(["redis", "rediss", "postgresql", "postgres", "sqlite", "amqp", "s3", "x", ""]),
    st.text(string.ascii_letters, max_size=4),
    st.just("hunter2secret"),
    st.sampled_from(["", "host", "host:port", "[::1", "h:99999999", "host/..", "/", "@", "a b"]),
    st.sampled_from(["", "/0", "/x", "?sslmode=verify-full", "?password=hunter2secret", "?a=%zz", "#x", "/0?db=1"]),
)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
VALUES = WORDS | URLS | TEXTS


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    before, folder = Path.cwd(), tmp_path_factory.mktemp("environment")
    os.chdir(folder)
    yield folder
    os.chdir(before)


@hypothesis_settings(deadline=None, max_examples=500)
@given(st.dictionaries(NAMES | st.text(string.ascii_uppercase, max_size=5), VALUES, max_size=4))
def test_whatever_the_environment_holds_is_settings_or_an_error_without_a_password(given: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(settings.PREFIX)}
    environment |= {settings.PREFIX + name: value for name, value in given.items()}
    with mock.patch.dict(os.environ, environment, clear=True):
        try:
            loaded = settings.load()
        except SettingsError as error:
            assert "hunter2secret" not in str(error)  # noqa: PT017
            return
    try:
        missing_file(loaded.db_url)
        if not loaded.db_url.startswith("sqlite"):  # which would make folders
            Database(loaded.db_url).close()
    except GridyardError as error:
        assert "hunter2secret" not in str(error)  # noqa: PT017


@hypothesis_settings(deadline=None, max_examples=200)
@given(st.dictionaries(NAMES.map(str.lower) | TEXTS, VALUES, max_size=3), TEXTS)
def test_whatever_the_file_holds_is_settings_or_an_error(folder: Path, given: dict[str, str], rest: str) -> None:
    lines = [f"{name} = {value!r}" for name, value in given.items()]
    (folder / "gridyard.toml").write_text("\n".join([*lines, rest]), encoding="utf-8")
    try:
        with mock.patch.dict(os.environ, {k: v for k, v in os.environ.items() if not k.startswith(settings.PREFIX)}):
            settings.load()
    except InputError as error:
        assert "hunter2secret" not in str(error)  # noqa: PT017
    finally:
        (folder / "gridyard.toml").unlink()


@pytest.mark.parametrize("rest", ["host:port/0", "h:99999999", "[::1/0", "127.0.0.1:1/x"])
@pytest.mark.parametrize("password", ["hunter2secret", "hun/ter2secret", "hunter2%2Fsecret", "hun?ter2#secret"])
def test_a_bell_that_cannot_be_rung_tells_no_password(
    rest: str, password: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ""
    try:
        bell.ring(settings.load(broker=f"redis://yard:{password}@{rest}"), "cpu")
    except SettingsError as error:
        told = str(error)
    printed = told + caplog.text + "".join(capsys.readouterr())
    assert "hunter2" not in printed
    assert "secret" not in printed
