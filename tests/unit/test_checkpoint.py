"""The last checkpoint: an interrupted job ends as if it had not been, bit for bit; what is damaged is not taken."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs import checkpoint
from jobs.errors import CheckpointDamaged
from jobs.history import History
from jobs.row import Row
from jobs.spec import Answer, EarlyStopping, EpochReport, JobSpec, Objective, Outcome, Stopped, TrainResult
from jobs.store import Store
from tests.training import alone, row_of

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]

EPOCHS = 7
SCHEDULERS: list[dict[str, Any] | None] = [
    None,
    {"name": "step", "step_size": 2},
    {"name": "cosine"},
    {"name": "plateau", "patience": 0},
    {"name": "one_cycle"},
]


class Killed(BaseException):
    """As a kill: nothing of the engine runs after it."""


def numbers(result: Outcome) -> TrainResult:
    """A result without what may differ: seconds, and whether it was interrupted."""
    assert isinstance(result, TrainResult), result
    history = History.of([replace(report, seconds=0.0) for report in reports(result.history)])
    return replace(result, history=history, seconds=0.0, resumed_from=0)


def reports(history: History) -> list[EpochReport]:
    """Those that the history was made of."""
    found = []
    for epoch in history.epochs():
        number, seconds = int(epoch.pop("epoch")), epoch.pop("seconds")
        found.append(EpochReport(job=1, epoch=number, metrics=epoch, seconds=seconds))
    return found


def hard_spec(make_spec: MakeSpec, **given: Any) -> JobSpec:
    """A job with everything that has a state."""
    facts = {"epochs": EPOCHS, "lr": 0.02, "dropout": 0.3, "batch_norm": True, "warmup_epochs": 2, "momentum": 0.9}
    stopping = EarlyStopping(monitor="val_loss", patience=5, min_delta=0.01)  # counts, and ends no job before epoch 6
    return make_spec(**{**facts, "weight_decay": 0.01, "clip_norm": 1.0, "early_stopping": stopping, **given})


def interrupted(train_one: TrainOne, spec: JobSpec, epochs: set[int]) -> Outcome:
    """Given back after each of these epochs, and taken up by the next attempt."""

    def answer(report: EpochReport) -> Answer:
        return Answer.GIVE_BACK if report.epoch in epochs else Answer.GO_ON

    for attempt in range(1, len(epochs) + 2):
        outcome = train_one(spec, attempt=attempt, answer=answer)
        if not isinstance(outcome, Stopped):
            return outcome
    raise AssertionError("it never ended")


def undisturbed(train_one: TrainOne, spec: JobSpec) -> Outcome:
    """The same job from its first epoch: under another uid it takes none of the checkpoints."""
    outcome = train_one(replace(spec, sweep_uid="undisturbed"))
    assert outcome.resumed_from == 0
    return outcome


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda wanted: wanted["name"] if wanted else "constant")
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_resumed_job_equals_an_undisturbed_one_bit_for_bit(
    make_spec: MakeSpec, train_one: TrainOne, optimizer: str, scheduler: dict[str, Any] | None
) -> None:
    """History, score, best epoch and the bytes of the best model, after interruptions in and after the warm-up."""
    spec = hard_spec(make_spec, optimizer=optimizer, scheduler=scheduler)
    resumed = interrupted(train_one, spec, {1, 2, 5})
    assert resumed.resumed_from == 5
    assert numbers(resumed) == numbers(undisturbed(train_one, spec))


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda wanted: wanted["name"] if wanted else "constant")
def test_a_job_that_got_more_epochs_goes_on_if_its_learning_rates_are_the_same(
    make_spec: MakeSpec, train_one: TrainOne, scheduler: dict[str, Any] | None
) -> None:
    """Either way it equals a job that had as many from the start."""
    spec = hard_spec(make_spec, scheduler=scheduler)
    train_one(spec, checkpoint_seconds=0)
    longer = replace(spec, epochs=EPOCHS + 4)
    resumed = train_one(longer, attempt=2)
    follows = scheduler is not None and scheduler["name"] in ("cosine", "one_cycle")
    assert (resumed.resumed_from == 0) == follows
    assert numbers(resumed) == numbers(undisturbed(train_one, longer))


@pytest.mark.parametrize("epoch", range(1, EPOCHS))
def test_a_job_may_be_interrupted_in_any_epoch(make_spec: MakeSpec, train_one: TrainOne, epoch: int) -> None:
    """Also while early stopping waits: patience is spent at the same epoch."""
    stopping = EarlyStopping(monitor="val_accuracy", mode="max", patience=EPOCHS)
    spec = hard_spec(make_spec, early_stopping=stopping, objective=Objective(metric="val_loss", mode="min"))
    resumed = interrupted(train_one, spec, {epoch})
    assert resumed.resumed_from == epoch
    assert numbers(resumed) == numbers(undisturbed(train_one, spec))


@pytest.mark.parametrize("task", ["breast_cancer", "digits", "sine"])
def test_every_task_can_be_interrupted(make_spec: MakeSpec, train_one: TrainOne, task: str) -> None:
    spec = make_spec(task, epochs=4)
    assert numbers(interrupted(train_one, spec, {2})) == numbers(undisturbed(train_one, spec))


def kill_in(epoch: int) -> Callable[[EpochReport], Answer]:
    def answer(report: EpochReport) -> Answer:
        if report.epoch == epoch:
            raise Killed
        return Answer.GO_ON

    return answer


class TestKilled:
    def test_a_killed_job_goes_on_from_its_last_checkpoint(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        spec = hard_spec(make_spec)
        with pytest.raises(Killed):
            train_one(spec, answer=kill_in(4), checkpoint_seconds=0)
        epochs: list[int] = []
        resumed = train_one(spec, attempt=2, answer=lambda report: epochs.append(report.epoch) or Answer.GO_ON)
        assert epochs[0] == 4, "epochs 1 to 3 were saved"
        assert resumed.resumed_from == 3
        assert numbers(resumed) == numbers(undisturbed(train_one, spec))

    def test_the_newest_attempts_checkpoint_is_taken(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        spec = hard_spec(make_spec)
        for attempt, epoch in ((1, 3), (2, 6)):
            with pytest.raises(Killed):
                train_one(spec, attempt=attempt, answer=kill_in(epoch), checkpoint_seconds=0)
        assert train_one(spec, attempt=4).resumed_from == 5, "attempt 3 died before its first checkpoint"

    def test_checkpoints_are_no_more_frequent_than_wanted(
        self, make_spec: MakeSpec, train_one: TrainOne, store: Store
    ) -> None:
        train_one(make_spec(), checkpoint_seconds=1000)
        assert not store.exists("1/1/last.safetensors")
        train_one(make_spec(), checkpoint_seconds=0)
        assert store.exists("1/1/last.safetensors")


@pytest.fixture
def stopped(make_spec: MakeSpec, train_one: TrainOne) -> JobSpec:
    """A job with whole checkpoints of attempt 1, epoch 2, and attempt 2, epoch 4."""
    spec = hard_spec(make_spec, early_stopping=None)
    for attempt, epoch in ((1, 3), (2, 5)):
        with pytest.raises(Killed):
            train_one(spec, attempt=attempt, answer=kill_in(epoch), checkpoint_seconds=0)
    return spec


class TestLongHistory:
    EPOCHS = 300_000

    @pytest.fixture
    def long(self, make_spec: MakeSpec, train_one: TrainOne) -> Row:
        """A row as after very many epochs, of which one has numbers that are no numbers."""
        result = train_one(make_spec(epochs=1, lr=0.1))
        row = row_of(make_spec(epochs=self.EPOCHS + 1, lr=0.1))
        pack = alone(row)
        pack.advance()
        row.state = pack.state(0)
        (first,) = reports(result.history)
        row.history = [replace(first, epoch=epoch, seconds=1 / epoch) for epoch in range(1, self.EPOCHS + 1)]
        odd = {"train_loss": math.nan, "val_loss": math.inf, "val_accuracy": -math.inf, "lr": 5e-324}
        row.history[1234] = replace(row.history[1234], metrics=first.metrics | odd)
        return row

    def test_a_history_of_300_000_epochs_is_kept_exactly_and_quickly(self, long: Row) -> None:
        """0.25 s to write and 1.3 s to read when it was measured."""
        restored = row_of(long.spec)
        assert long.state is not None
        started = time.process_time()
        checkpoint.restore(restored, checkpoint.dump(long, long.state), "it")
        assert time.process_time() - started < 10
        assert repr(restored.history.pop(1234)) == repr(long.history.pop(1234)), "NaN equals itself only as text"
        assert restored.history == long.history
        assert list(restored.history[0].metrics) == list(long.history[0].metrics)

    def test_a_history_takes_eight_bytes_a_number_and_nothing_of_the_header(self, long: Row) -> None:
        assert long.state is not None
        content = checkpoint.dump(long, long.state)
        assert int.from_bytes(content[:8], "little") < 10_000, "safetensors refuses a header of 100 MB"
        assert len(content) < self.EPOCHS * 8 * 8 + 20_000, "seven metrics and the seconds"


class TestDamaged:
    @pytest.mark.parametrize(
        "damage", [lambda c: c[:-1], lambda c: c[:100], lambda c: b"", lambda c: c[:-9] + b"\xff" * 9]
    )
    def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
        self,
        stopped: JobSpec,
        train_one: TrainOne,
        store: Store,
        caplog: pytest.LogCaptureFixture,
        damage: Callable[[bytes], bytes],
    ) -> None:
        store.write("1/2/last.safetensors", damage(store.read("1/2/last.safetensors")))
        with caplog.at_level(logging.WARNING):
            resumed = train_one(stopped, attempt=3)
        assert resumed.resumed_from == 2
        assert "1/2/last.safetensors" in caplog.text
        assert numbers(resumed) == numbers(undisturbed(train_one, stopped))

    @pytest.mark.parametrize(
        "changes", [{"sweep_uid": "other"}, {"seed": 1}, {"epochs": 1}, {"params": {"lr": 0.5}}, {"task": "digits"}]
    )
    def test_a_checkpoint_of_another_job_is_never_taken(
        self, stopped: JobSpec, train_one: TrainOne, changes: dict[str, Any]
    ) -> None:
        """As after a store was shared by two databases: job 1 of one is not job 1 of the other."""
        assert train_one(replace(stopped, **changes), attempt=3).resumed_from == 0

    def test_a_half_written_file_beside_it_does_no_harm(
        self, stopped: JobSpec, train_one: TrainOne, store: Store
    ) -> None:
        store.write("1/3/.tmp-0123", b"half")
        assert train_one(stopped, attempt=3).resumed_from == 4

    def test_the_message_says_whose_it_is(self, stopped: JobSpec, store: Store) -> None:
        row = row_of(replace(stopped, sweep_uid="other"))
        with pytest.raises(CheckpointDamaged, match="last belongs to job u/1"):
            checkpoint.restore(row, store.read("1/1/last.safetensors"), "last")
        assert row.epoch == 0, "a refused checkpoint changes nothing"
