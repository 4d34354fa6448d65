"""Training a job again: equal bit for bit, or the first number that differs and a likely cause."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import update

from db.models import Attempt
from db.models import Job as JobRow
from gridyard import repeat
from gridyard.client import Yard
from gridyard.job import Job
from jobs import engine
from jobs.errors import InputError, JobsFailed
from tests.trained import trained, yard_at

KEYS: dict[str, Any] = {"task": "iris", "fixed": {"dropout": 0.2}, "epochs": 4}


@pytest.fixture(scope="module")
def job(yard: Yard) -> Job:
    return trained(yard, **KEYS)


def test_a_job_repeats_bit_for_bit_on_the_machine_it_was_trained_on(job: Job) -> None:
    found = job.repeat()
    assert (found.equal, found.passed, found.tolerance) == (True, True, 0.0)
    assert (found.first, found.result, found.weights_off, found.environment) == (None, [], 0.0, [])
    assert found.epochs == 4


def test_repeating_leaves_the_callers_threads_and_no_files(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        job.repeat()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_differs_is_named_with_its_epoch_and_size(job: Job) -> None:
    """The record is changed, as if another machine had written it."""
    details = job.details()
    details.history[1] = {**details.history[1], "val_loss": details.history[1]["val_loss"] + 0.5}
    found = repeat.compare(details, repeat._trained(job, details), job.content)
    assert found.first is not None
    assert (found.first.epoch, found.first.metric) == (2, "val_loss")
    assert found.first.absolute == pytest.approx(0.5)
    assert not found.equal
    assert not found.passed


def test_within_a_tolerance_a_result_passes_without_being_equal(job: Job) -> None:
    details = job.details()
    metrics = {name: value and value * 1.001 for name, value in details.metrics.items()}
    near = dataclasses.replace(details, metrics=metrics)
    result = repeat._trained(job, details)
    assert repeat.compare(near, result, job.content, tolerance=0.002).passed
    assert not repeat.compare(near, result, job.content, tolerance=0.0005).passed
    assert not repeat.compare(near, result, job.content, tolerance=0.002).equal


def test_another_environment_is_told_and_makes_the_tolerance_loose(job: Job) -> None:
    details = job.details()
    other = dataclasses.replace(details, environment={**details.environment, "torch": "1.0", "threads": 1})
    found = repeat.compare(other, repeat._trained(job, details), job.content)
    assert ("torch", "1.0") in [(one.name, one.recorded) for one in found.environment]
    assert found.tolerance == repeat.LOOSE


def test_a_job_that_was_compiled_is_compiled_again_and_compared_loosely(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it is compiled depends on the sizes of batches that the trainer has seen before."""
    checked: list[engine.Options] = []
    monkeypatch.setattr(engine, "check", checked.append)
    compiled = {"pack": {"jobs": 1, "mode": "compiled"}}
    details = job.details()
    details = dataclasses.replace(details, environment=details.environment | compiled)
    result = repeat._trained(job, details)
    assert [options.compile for options in checked] == [True]
    result = dataclasses.replace(result, environment=result.environment | compiled)
    assert repeat.compare(details, result, job.content).tolerance == repeat.LOOSE


def test_a_number_that_was_not_finite_equals_its_record(job: Job) -> None:
    assert repeat._that_differ(1, {"val_r2": None}, {"val_r2": math.nan, "tokens_per_second": 3.0}) == []
    (one,) = repeat._that_differ(1, {"val_r2": None}, {"val_r2": 1.0})
    assert one.relative == math.inf


def test_changed_data_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    yard = yard_at(tmp_path)
    job = trained(yard, **KEYS)
    with yard.database.writing() as session:
        session.execute(update(Attempt).values(environment={**job.details().environment, "data": "f" * 64}))
    with pytest.raises(JobsFailed, match="the data of job 1 has changed: its fingerprint was ffffffffffff, here it is"):
        job.repeat()
    yard.database.close()


def test_parameters_that_this_version_does_not_take_are_said_in_one_line(tmp_path: Path) -> None:
    yard = yard_at(tmp_path)
    job = trained(yard, **KEYS)
    with yard.database.writing() as session:
        spec = {**job.details().params, "wings": 2}
        session.execute(update(JobRow).values(params=spec))
    with pytest.raises(JobsFailed, match="job 1 cannot be trained again: error: ValidationError") as raised:
        job.repeat()
    assert "\n" not in str(raised.value)
    yard.database.close()


def test_a_job_that_has_not_succeeded_is_refused(yard: Yard) -> None:
    sweep = yard.submit(**KEYS, name="waits")
    with yard.database.reading() as session:
        job = session.query(JobRow.id).filter(JobRow.sweep_id == sweep.id).scalar()
    with pytest.raises(InputError, match=f"job {job} is ready; only a job that has succeeded can be repeated"):
        Job(yard, job).repeat()
