"""Who trains with whom, and what becomes of a pack in which something goes wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import hall, sizing
from jobs.engine import Options, train
from jobs.forward import Mode
from jobs.pack import Pack
from jobs.sizing import Choice, Sizes
from jobs.spec import Answer, Assignment, EpochReport, Failure, JobSpec, Outcome, TrainResult
from jobs.store import Store
from tests.histories import without_seconds
from tests.own_tasks import OwnFolder, changed
from tests.training import go_on

MakeSpec = Callable[..., JobSpec]


@pytest.fixture(autouse=True)
def sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sizes:
    """No memory of what other tests, or this machine, found out."""
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
    fresh = Sizes()
    monkeypatch.setattr(hall, "SIZES", fresh)
    return fresh


@pytest.fixture
def outcomes(store: Store) -> Callable[..., dict[int, Outcome]]:
    """outcomes(specs): how these jobs end that begin together."""

    def make(specs: Sequence[JobSpec], report: Any = go_on, most: int = 8, **options: Any) -> dict[int, Outcome]:
        assignments = [Assignment(spec=spec, attempt=1, most=most) for spec in specs]
        given = Options(**{"device": "cpu", "checkpoint_seconds": 1000, **options})
        return {one.job: one for one in train(assignments, store=store, options=given, report=report)}

    return make


Outcomes = Callable[..., dict[int, Outcome]]


def result(outcome: Outcome) -> TrainResult:
    assert isinstance(outcome, TrainResult), outcome
    return outcome


def assert_ends_as(outcome: Outcome, expected: Outcome) -> None:
    ours, theirs = result(outcome), result(expected)
    assert without_seconds(ours.history) == without_seconds(theirs.history)
    assert (ours.best, ours.metrics) == (theirs.best, theirs.metrics)


class TestOneGoesWrong:
    """A row raises in the middle of an epoch: the pack is halved until that job fails alone."""

    LOSS = [  # raises in the last of three batches
        "def loss(self, params, outputs, targets):",
        "    if params.lr == 0.5 and len(outputs) == 10: raise ArithmeticError('of no use')",
        "    return super().loss(params, outputs, targets)",
    ]
    METRIC = [
        "def problem(self, params, seed):",
        "    from dataclasses import replace",
        "    usual = super().problem(params, seed)",
        "    def share(predictions, truth):",
        "        if params.lr == 0.5: raise ArithmeticError('of no use')",
        "        return (predictions.argmax(-1) == truth).double().mean() / params.lr",
        "    return replace(usual, metrics={'worst': share, 'accuracy': share, 'f1': share})",
    ]

    @pytest.mark.parametrize("bad", [0, 2])
    @pytest.mark.parametrize("lines", [LOSS, METRIC], ids=["loss", "metric"])
    def test_that_job_fails_alone_and_the_others_end_with_the_numbers_they_have_alone(
        self, write: OwnFolder, make_spec: MakeSpec, outcomes: Outcomes, lines: list[str], bad: int
    ) -> None:
        write("my_task", changed(*lines))
        specs = [
            make_spec(
                "clouds", job=1 + number, seed=number, batch_size=22, lr=0.5 if number == bad else 0.01 + 0.001 * number
            )
            for number in range(4)
        ]
        found = outcomes(specs)
        failure = found[1 + bad]
        assert isinstance(failure, Failure)
        assert failure.error.startswith("ArithmeticError: of no use\n")
        assert "my_task.py" in failure.error
        for spec in specs:
            if spec.job != 1 + bad:
                assert_ends_as(found[spec.job], outcomes([spec])[spec.job])

    def test_jobs_of_the_other_half_train_together_on(
        self, write: OwnFolder, make_spec: MakeSpec, outcomes: Outcomes
    ) -> None:
        write("my_task", changed(*self.LOSS))
        specs = [make_spec("clouds", job=job, batch_size=22, lr=0.5 if job == 1 else 0.01) for job in range(1, 9)]
        found = outcomes(specs)
        assert [result(found[job]).environment["pack"]["jobs"] for job in range(2, 9)] == [1, 2, 2, 4, 4, 4, 4]


class TestOutOfMemory:
    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """A memory for packs of two at most; the list is the packs that were tried."""
        tried: list[int] = []
        advance = Pack.advance

        def of_two(pack: Pack) -> list[EpochReport]:
            tried.append(len(pack.rows))
            if len(pack.rows) > 2 and pack.rows[0].epoch == 1:
                raise torch.OutOfMemoryError
            return advance(pack)

        monkeypatch.setattr(Pack, "advance", of_two)
        return tried

    def test_a_pack_is_halved_and_goes_on(self, make_spec: MakeSpec, outcomes: Outcomes, small: list[int]) -> None:
        specs = [make_spec(job=job, seed=job, lr=0.01 * job) for job in range(1, 5)]
        found = outcomes(specs)
        assert small[:4] == [4, 4, 2, 2]
        for spec in specs:
            assert result(found[spec.job]).environment["pack"]["jobs"] == 2
            assert_ends_as(found[spec.job], outcomes([spec])[spec.job])

    @pytest.mark.parametrize("seconds", [0, 1000])
    def test_its_jobs_go_on_from_their_checkpoints_where_there_are_some(
        self, make_spec: MakeSpec, outcomes: Outcomes, small: list[int], seconds: float
    ) -> None:
        specs = [make_spec(job=job, epochs=4) for job in range(1, 5)]
        for outcome in outcomes(specs, checkpoint_seconds=seconds).values():
            assert result(outcome).resumed_from == (1 if seconds == 0 else 0)
            assert result(outcome).history.columns()["epoch"] == [1, 2, 3, 4]

    def test_later_packs_of_the_shape_are_of_half_the_size(
        self, make_spec: MakeSpec, outcomes: Outcomes, small: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sizing, "measure", lambda row, modes: Choice(Mode.STACKED, 4))
        outcomes([make_spec(job=job) for job in range(1, 5)], most=0)
        small.clear()
        outcomes([make_spec(job=job) for job in range(5, 9)], most=0)
        assert max(small) == 2

    def test_a_job_that_finds_no_room_alone_fails(
        self, make_spec: MakeSpec, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(pack: Pack) -> list[EpochReport]:
            raise torch.OutOfMemoryError("no room")

        monkeypatch.setattr(Pack, "advance", never)
        found = outcomes([make_spec(job=job) for job in range(1, 4)])
        ends = [outcome for outcome in found.values() if isinstance(outcome, Failure)]
        assert [(one.reason, "no room" in one.error) for one in ends] == [("out_of_memory", True)] * 3


class TestShapes:
    def test_jobs_of_different_shapes_train_in_different_packs(self, make_spec: MakeSpec, outcomes: Outcomes) -> None:
        changes: list[dict[str, Any]] = [{}, {"hidden": [5]}, {"batch_size": 30}, {"optimizer": "sgd"}]
        changes += [{"optimizer": "sgd", "momentum": 0.5}, {"batch_norm": True}, {"task": "sine"}]
        specs = [
            make_spec(job=1 + 2 * number + twin, lr=0.01 * (1 + twin), **change)
            for number, change in enumerate(changes)
            for twin in (0, 1)
        ]
        for outcome in outcomes(specs, most=100).values():
            assert result(outcome).environment["pack"]["jobs"] == 2

    def test_jobs_that_differ_in_numbers_of_a_row_train_together(self, make_spec: MakeSpec, outcomes: Outcomes) -> None:
        specs = [
            make_spec(job=1, optimizer="sgd", momentum=0.1, epochs=2),
            make_spec(job=2, optimizer="sgd", momentum=0.9, seed=5, scheduler={"name": "cosine"}),
            make_spec(job=3, optimizer="sgd", momentum=0.9, dropout=0.5, clip_norm=1.0, weight_decay=0.1),
        ]
        for outcome in outcomes(specs).values():
            assert result(outcome).environment["pack"]["jobs"] == 3

    def test_no_pack_is_larger_than_the_sweep_says(self, make_spec: MakeSpec, outcomes: Outcomes) -> None:
        found = outcomes([make_spec(job=job, lr=0.01 * job) for job in range(1, 8)], most=3)
        assert [result(found[job]).environment["pack"]["jobs"] for job in range(1, 8)] == [3, 3, 3, 3, 3, 3, 1]

    def test_splits_with_other_numbers_of_rows_are_other_packs(
        self, write: OwnFolder, make_spec: MakeSpec, outcomes: Outcomes
    ) -> None:
        """As where groups of rows stay together: another seed, another number of training rows."""
        lines = [
            "def data(self, params, seed):",
            "    draws = np.random.default_rng(seed)",
            "    part = lambda n: (draws.normal(size=(n, 2)), np.arange(n) % 3)",
            "    return {'train': part(30 + seed % 2), 'val': part(9), 'test': part(9)}",
        ]
        write("my_task", changed(*lines))
        specs = [make_spec("clouds", job=1 + seed, seed=seed, batch_size=8) for seed in range(5)]
        found = outcomes(specs)
        assert [result(found[job]).environment["pack"]["jobs"] for job in range(1, 6)] == [3, 2, 3, 2, 3]
        for spec in specs:
            assert_ends_as(found[spec.job], outcomes([spec])[spec.job])

    def test_jobs_of_several_seeds_train_together_each_on_its_own_split(
        self, make_spec: MakeSpec, outcomes: Outcomes
    ) -> None:
        specs = [make_spec("breast_cancer", job=1 + seed, seed=seed, epochs=2) for seed in range(4)]
        found = outcomes(specs)
        for spec in specs:
            assert result(found[spec.job]).environment["pack"]["jobs"] == 4
            assert_ends_as(found[spec.job], outcomes([spec])[spec.job])
        losses = [result(outcome).metrics["test_loss"] for outcome in found.values()]
        assert len(set(losses)) == 4


class TestOthersJoin:
    def test_a_job_that_trains_alone_goes_on_with_those_that_join(
        self, write: OwnFolder, make_spec: MakeSpec, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Until then there was nothing to measure: its network is then mapped for all of them."""
        norm = "nn.Linear(2, 8), nn.Softmax(1), nn.Dropout(0.2), nn.Linear(8, 3)"
        write("my_task", changed(f"def model(self, params, signature): return nn.Sequential({norm})"))
        monkeypatch.setattr(sizing, "measure", lambda row, modes: Choice(modes[0], 8))
        specs = [make_spec("clouds", job=job, seed=job, epochs=6) for job in (1, 2, 3)]
        waiting = [Assignment(spec=spec, attempt=1) for spec in specs[1:]]
        seen: list[list[tuple[int, int]]] = []

        def report(epochs: Sequence[EpochReport], room: int) -> list[Answer]:
            seen.append([(epoch.job, epoch.epoch) for epoch in epochs])
            return [Answer.GO_ON] * len(epochs)

        def joining() -> list[Assignment]:
            coming, waiting[:] = (waiting[:], []) if len(seen) == 2 else ([], waiting[:])
            return coming

        options = Options(device="cpu", checkpoint_seconds=1000)
        first = Assignment(spec=specs[0], attempt=1)
        found = {one.job: one for one in train([first], store=store, options=options, report=report, joining=joining)}
        assert seen[1:3] == [[(1, 2)], [(1, 3), (2, 1), (3, 1)]]
        for spec in specs:
            ours = result(found[spec.job])
            assert ours.environment["pack"] == {"jobs": 3, "mode": Mode.MAPPED}
            (alone,) = train([Assignment(spec=spec, attempt=1)], store=store, options=options, report=go_on)
            assert result(alone).environment["pack"]["mode"] == Mode.ALONE
            expected = result(alone).history.columns()["val_loss"]
            assert ours.history.columns()["val_loss"] == pytest.approx(expected, rel=1e-4)
