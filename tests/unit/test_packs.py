"""Jobs trained together: each has the numbers it has alone, and all else that it has alone."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from jobs.engine import Options, train
from jobs.forward import Mode
from jobs.pack import Pack
from jobs.row import Row
from jobs.spec import Answer, Assignment, EarlyStopping, EpochReport, Failure, JobSpec, Outcome, Stopped, TrainResult
from jobs.states import FailureReason
from jobs.store import Store
from tests.histories import without_seconds
from tests.training import alone, answering, go_on, row_of

MakeSpec = Callable[..., JobSpec]
EPOCHS = 4

# Networks of known layers; the odd sizes leave vector instructions a rest.
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {"hidden": [16, 8], "batch_size": 16},
    "batch norm": {"hidden": [33, 7], "batch_size": 32, "batch_norm": True},
    "tanh": {"hidden": [21, 13], "batch_size": 13, "activation": "tanh"},
    "gelu and batch norm": {"hidden": [21], "batch_size": 7, "activation": "gelu", "batch_norm": True},
    "silu, one logit": {"task": "breast_cancer", "hidden": [21], "activation": "silu", "batch_size": 50},
    "wide: fused updates": {"task": "digits", "hidden": [100], "batch_size": 64},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    "rmsprop": {"optimizer": "rmsprop", "momentum": 0.5},
    "adamw": {"optimizer": "adamw"},
    "one of torch's for each row": {"optimizer": "nadam"},
    "bfloat16": {"precision": "bfloat16", "batch_norm": True, "hidden": [33, 7]},
    "float16": {"precision": "float16", "hidden": [21, 8]},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As trainers compute: several threads share out long tensors, and a sum depends on where it is cut."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def numbers(row: Row) -> list[dict[str, float]]:
    return [report.metrics for report in row.history]


@pytest.fixture
def me(make_spec: MakeSpec) -> Callable[..., JobSpec]:
    """The job that is looked at."""
    return lambda **network: make_spec(
        job=1, seed=3, epochs=30, **{"lr": 0.013, "dropout": 0.25, "clip_norm": 0.7, **network}
    )


@pytest.fixture
def others(make_spec: MakeSpec) -> Callable[..., list[Row]]:
    """Rows that differ from it, and from each other, in all that rows of a pack may differ in."""

    def make(count: int, **network: Any) -> list[Row]:
        return [
            row_of(
                make_spec(
                    **{
                        **network,
                        "job": 100 + number,
                        "seed": number * 7 % 11,
                        "epochs": 30,
                        "lr": 0.001 * (1 + number % 13),
                        "dropout": (0.0, 0.3, 0.1)[number % 3],
                        "weight_decay": 0.01 * (number % 2),
                        "clip_norm": (None, 0.5)[number % 2],
                        "warmup_epochs": number % 3,
                        "scheduler": (None, {"name": "step", "step_size": 2}, {"name": "one_cycle"})[number % 3],
                    }
                )
            )
            for number in range(count)
        ]

    return make


def trained(rows: Sequence[Row], epochs: int = EPOCHS, mode: Mode = Mode.STACKED) -> Pack:
    pack = Pack(rows, mode, len(rows))
    for _ in range(epochs):
        pack.advance()
    return pack


def place_of(pack: Pack, job: int) -> int:
    return next(place for place, row in enumerate(pack.rows) if row.spec.job == job)


def assert_same(pack: Pack, other: Pack, job: int = 1) -> None:
    """Bit for bit: weights, best weights, buffers, and every number of the history."""
    here, there = place_of(pack, job), place_of(other, job)
    assert numbers(pack.rows[here]) == numbers(other.rows[there])
    assert torch.equal(pack.weights[here], other.weights[there])
    assert torch.equal(pack.best[here], other.best[there])
    for name, held in pack.buffers.items():
        assert name.endswith("key") or torch.equal(held[here], other.buffers[name][there]), name


class TestNumbersDoNotDependOnThePack:
    @pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
    def test_whatever_its_size_the_place_and_the_neighbours(
        self, me: Callable[..., JobSpec], others: Callable[..., list[Row]], network: dict[str, Any]
    ) -> None:
        single = trained([row_of(me(**network))])
        for count, place in ((1, 0), (1, 1), (4, 4), (18, 5)):
            neighbours = others(count, **network)
            pack = trained([*neighbours[:place], row_of(me(**network)), *neighbours[place:]])
            assert_same(pack, single)

    @pytest.mark.parametrize("network", [NETWORKS["plain"], NETWORKS["batch norm"], NETWORKS["rmsprop"]])
    def test_when_others_leave_and_join(
        self, me: Callable[..., JobSpec], others: Callable[..., list[Row]], network: dict[str, Any]
    ) -> None:
        single = trained([row_of(me(**network))], epochs=6)
        neighbours = others(6, **network)
        pack = Pack([*neighbours[:3], row_of(me(**network)), *neighbours[3:5]], Mode.STACKED, 10)
        pack.advance()
        pack.drop([100, 102])
        pack.advance()
        pack.add(neighbours[5:])
        pack.advance()
        pack.drop([101, 103, 104])
        pack.advance()
        pack.drop([105])
        assert [row.spec.job for row in pack.rows] == [1]
        pack.advance()
        pack.advance()
        assert_same(pack, single)

    def test_when_it_joins_a_pack_that_has_trained_for_long(
        self, me: Callable[..., JobSpec], others: Callable[..., list[Row]]
    ) -> None:
        pack = trained(others(3), epochs=4)
        pack.add([row_of(me())])
        for _ in range(EPOCHS):
            pack.advance()
        assert_same(pack, trained([row_of(me())]))

    def test_tests_and_best_models_are_those_it_has_alone(
        self, me: Callable[..., JobSpec], others: Callable[..., list[Row]]
    ) -> None:
        single, pack = trained([row_of(me())]), trained([*others(4), row_of(me())])
        place = place_of(pack, 1)
        assert pack.test([1, place])[1] == single.test([0])[0]
        ours = {name: tensor.clone() for name, tensor in pack.bind_best(place).state_dict().items()}
        theirs = single.bind_best(0).state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    @pytest.mark.parametrize("task", ["iris", "breast_cancer", "digits", "sine"])
    def test_row_by_row_it_comes_to_the_same_within_rounding(
        self, me: Callable[..., JobSpec], others: Callable[..., list[Row]], task: str
    ) -> None:
        """The network itself, without matrices of many rows: the other way of the same numbers."""
        rows = [*others(2, task=task), row_of(me(task=task))]
        by_row = trained([*others(2, task=task), row_of(me(task=task))], epochs=2, mode=Mode.ALONE)
        together = trained(rows, epochs=2, mode=Mode.STACKED if rows[0].built.stacked else Mode.MAPPED)
        for one, other in zip(by_row.rows, together.rows, strict=True):
            found, expected = one.history[-1].metrics, other.history[-1].metrics
            assert found["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)


class TestEachKeepsItsOwn:
    """Through the engine: a pack of jobs that end in all the ways there are."""

    @pytest.fixture
    def specs(self, make_spec: MakeSpec) -> list[JobSpec]:
        stopping = EarlyStopping(monitor="val_loss", patience=2)
        good = make_spec(job=1, epochs=12, lr=0.05, early_stopping=stopping, dropout=0.1)
        changes: list[dict[str, Any]] = [
            {"job": 2, "params": {**good.params, "lr": 0.001}},
            {"job": 3, "seed": 5},
            {"job": 4, "params": {**good.params, "lr": 90.0, "optimizer": "adam"}},  # goes its own way, loudly
            {"job": 5, "params": {**good.params, "clip_norm": 0.1, "scheduler": {"name": "cosine", "min_lr": 0.0}}},
            {"job": 6, "params": {**good.params, "scheduler": {"name": "plateau", "factor": 0.1, "patience": 1}}},
            {"job": 7, "seed": 9, "params": {**good.params, "weight_decay": 0.1}},
        ]
        return [good, *(replace(good, **change) for change in changes)]

    def outcomes(
        self, store: Store, specs: Sequence[JobSpec], report: Any = go_on, **options: Any
    ) -> dict[int, Outcome]:
        assignments = [Assignment(spec=spec, attempt=1, most=8) for spec in specs]
        given = Options(**{"device": "cpu", "checkpoint_seconds": 1000, **options})
        return {one.job: one for one in train(assignments, store=store, options=given, report=report)}

    def test_all_end_as_they_end_alone(self, store: Store, specs: list[JobSpec]) -> None:
        together = self.outcomes(store, specs)
        for spec in specs:
            alone, ours = self.outcomes(store, [spec])[spec.job], together[spec.job]
            assert isinstance(ours, TrainResult)
            assert isinstance(alone, TrainResult)
            assert without_seconds(ours.history) == without_seconds(alone.history)
            assert (ours.best, ours.metrics, ours.epochs) == (alone.best, alone.metrics, alone.epochs)
            assert ours.environment["pack"] == {"jobs": len(specs), "mode": "stacked"}
            assert ours.environment | {"pack": {"jobs": 1, "mode": "stacked"}} == alone.environment
        assert len({outcome.epochs for outcome in together.values()}) > 2, "they ended in different epochs"

    def test_a_job_that_diverges_touches_no_other(self, store: Store, make_spec: MakeSpec) -> None:
        good = make_spec("breast_cancer", job=1, optimizer="sgd", lr=0.01, epochs=4)
        wild = replace(good, job=2, params={**good.params, "lr": 100.0, "weight_decay": 100.0})
        specs = [replace(good, job=3, seed=1), wild, good]
        together = self.outcomes(store, specs)
        assert isinstance(together[2], Failure)
        assert together[2].reason is FailureReason.DIVERGED
        for job, spec in ((1, good), (3, specs[0])):
            (ours, single) = together[job], self.outcomes(store, [spec])[job]
            assert isinstance(ours, TrainResult)
            assert isinstance(single, TrainResult)
            assert (ours.best, ours.metrics) == (single.best, single.metrics)
            assert all(map(math.isfinite, ours.history.columns()["train_loss"]))

    def test_each_is_answered_for_itself(self, store: Store, specs: list[JobSpec]) -> None:
        says = {2: Answer.CANCELLED, 3: Answer.GIVE_BACK, 4: Answer.CLAIM_LOST}

        def say(epoch: EpochReport) -> Answer:
            return says.get(epoch.job, Answer.GO_ON) if epoch.epoch == 2 else Answer.GO_ON

        outcomes = self.outcomes(store, specs, answering(say))
        for job, answer in says.items():
            assert outcomes[job] == Stopped(job=job, answer=answer, epoch=2)
            assert store.exists(f"{job}/1/last.safetensors") == (answer is Answer.GIVE_BACK)
        assert all(isinstance(outcomes[job], TrainResult) for job in (1, 5, 6, 7))

    def test_a_pack_that_was_killed_goes_on_together_or_alone(self, store: Store, specs: list[JobSpec]) -> None:
        """Each has its own checkpoint; what trains with it afterwards changes nothing."""
        undisturbed = self.outcomes(store, specs)

        class Killed(BaseException):
            pass

        def kill(epochs: Sequence[EpochReport], room: int) -> list[Answer]:
            if epochs[0].epoch == 3:
                raise Killed
            return [Answer.GO_ON] * len(epochs)

        with pytest.raises(Killed):
            self.outcomes(store, specs, kill, checkpoint_seconds=0)
        again = [Assignment(spec=spec, attempt=2, most=8) for spec in specs]
        options = Options(device="cpu", checkpoint_seconds=1000)
        resumed = [
            *train(again[:1], store=store, options=options, report=go_on),
            *train(again[1:], store=store, options=options, report=go_on),
        ]
        for outcome in resumed:
            expected = undisturbed[outcome.job]
            assert isinstance(outcome, TrainResult)
            assert isinstance(expected, TrainResult)
            assert outcome.resumed_from == 2
            assert (outcome.best, outcome.metrics, outcome.epochs) == (expected.best, expected.metrics, expected.epochs)

    def test_jobs_join_between_epochs(self, store: Store, specs: list[JobSpec]) -> None:
        """As the slot sends them once it knows that there is room."""
        waiting = [Assignment(spec=spec, attempt=1, most=4) for spec in specs[1:]]
        rooms = []

        def report(epochs: Sequence[EpochReport], room: int) -> list[Answer]:
            rooms.append((len(epochs), room))
            return [Answer.GO_ON] * len(epochs)

        def joining() -> list[Assignment]:
            room = rooms[-1][1] if rooms else 0
            coming, waiting[:] = waiting[:room], waiting[room:]
            return coming

        first = Assignment(spec=specs[0], attempt=1, most=4)
        options = Options(device="cpu", checkpoint_seconds=1000)
        outcomes = list(train([first], store=store, options=options, report=report, joining=joining))
        assert sorted(outcome.job for outcome in outcomes) == [spec.job for spec in specs]
        assert rooms[0] == (1, 3)
        assert max(rows for rows, _ in rooms) == 4
        expected = self.outcomes(store, specs)
        for outcome in outcomes:
            assert isinstance(outcome, TrainResult)
            assert outcome.best == expected[outcome.job].best


def test_seconds_of_a_pack_are_shared_among_its_jobs(make_spec: MakeSpec) -> None:
    single = alone(row_of(make_spec())).advance()[0].seconds
    pack = Pack([row_of(make_spec(job=job)) for job in range(64)], Mode.STACKED, 64)
    assert 0 < pack.advance()[0].seconds < single
