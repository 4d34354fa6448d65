"""Files that a job names lie in the data folder, or where whoever keeps the worker allows."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gridyard.job import Job
from jobs import data, settings
from jobs.errors import InputError, JobsFailed
from jobs.language import places
from jobs.sources import opened
from jobs.tasks.table import surveyed
from tests.trained import trained, yard_at


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a table, and tables beside it."""
    for name in ("data", "shared", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "table.csv").write_text("a,b\n1,2\n")
    monkeypatch.setenv("GRIDYARD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GRIDYARD_FILES", str(tmp_path / "shared"))
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    return tmp_path


def test_what_lies_in_the_data_folder_or_an_allowed_one_is_opened(folder: Path) -> None:
    assert opened("table.csv") == folder / "data/table.csv"
    assert opened(str(folder / "shared/table.csv")) == folder / "shared/table.csv"
    assert opened("linked/table.csv").read_text(), "whoever keeps the machine has put the link there"


@pytest.mark.parametrize(
    "stored",
    [
        "../elsewhere/table.csv",
        "{}/elsewhere/table.csv",
        "{}/shared/../elsewhere/table.csv",
        "/etc/passwd",
        "a/../../x",
    ],
)
def test_what_leads_out_is_refused(stored: str, folder: Path) -> None:
    with pytest.raises(InputError, match="in none of the folders that jobs may read"):
        opened(stored.format(folder))
    with pytest.raises(InputError, match="in none of the folders that jobs may read"):
        places.folder("model", stored.format(folder))


class TestAYardWhoseUrlWasGivenInPlaceOfTheSetting:
    """`--db` and `connect(db=…)`: the environment says SQLite, where all is allowed."""

    @pytest.fixture
    def job(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
        """Trained on a table outside of the data folder, of a yard whose database is then a server."""
        monkeypatch.delenv("GRIDYARD_FILES")
        table = folder / "elsewhere/table.csv"
        table.write_text("a,b\n" + "".join(f"{n * 7 % 60 / 4},{n % 3}.5\n" for n in range(60)))
        yard = yard_at(folder)
        job = trained(yard, task="table", fixed={"data": str(table), "target": "b", "hidden": [4]}, epochs=1)
        surveyed.cache_clear()  # as in a process that has not trained it
        yard.settings = settings.load(db="postgresql://db/yard", store=yard.settings.store)
        yield job
        yard.database.close()

    def test_its_jobs_are_repeated_with_the_files_that_it_allows(self, job: Job, folder: Path) -> None:
        with pytest.raises(JobsFailed, match="in none of the folders that jobs may read"):
            job.repeat()
        job.yard.settings = job.yard.settings.model_copy(update={"files": str(folder / "elsewhere")})
        assert job.repeat().equal

    def test_and_reported_with_no_others(self, job: Job, folder: Path) -> None:
        (missing,) = job.write(report=folder / "page.html").missing
        assert "in none of the folders that jobs may read" in missing

    def test_and_who_submits_such_a_file_is_told(
        self, job: Job, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        keys: dict[str, Any] = {"task": "table", "epochs": 1}
        job.yard.submit(**keys, fixed={"data": str(folder / "elsewhere/table.csv"), "target": "b"})
        assert "lies in none of the folders that jobs may read" in caplog.text
        assert "GRIDYARD_FILES of the workers" in caplog.text
        assert (
            "WARNING: workers with these settings refuse to read this file, and all jobs of the sweep fail"
            in caplog.text
        )
        assert "let GRIDYARD_FILES here be what it is there" in caplog.text
        caplog.clear()
        (folder / "data/inside.csv").write_text((folder / "elsewhere/table.csv").read_text())
        job.yard.submit(**keys, fixed={"data": "inside.csv", "target": "b"})
        assert "jobs may read" not in caplog.text


@pytest.mark.parametrize("stored", ["a\0b", "x" * 5000, "\udcff"])
def test_a_name_that_is_no_path_is_one_message(stored: str, folder: Path) -> None:
    with pytest.raises(InputError):
        opened(stored)


def test_all_is_allowed_where_the_database_is_a_file_and_nothing_else_where_it_is_a_server(folder: Path) -> None:
    os.environ.pop("GRIDYARD_FILES")
    assert settings.load(db="sqlite:///yard.db").readable == "*"
    assert settings.load(db="postgresql://db/yard").readable == str(data.folder())
    assert settings.load(db="postgresql://db/yard", files="/mnt/a").readable == "/mnt/a"


def test_even_where_all_is_allowed_a_relative_path_stays_in_the_data_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDYARD_FILES", "*")
    assert opened(str(folder / "elsewhere/table.csv"))
    with pytest.raises(InputError, match="jobs may read"):
        opened("../elsewhere/table.csv")
