"""Stopped between two batches, a job goes on there: with the numbers, bit for bit, of one that was never stopped."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import checkpoint, tensorfile
from jobs.engine import Options, train
from jobs.pausing import Paused, heeding
from jobs.spec import Answer, Assignment, EpochReport, JobSpec, Outcome, Stopped, TrainResult
from jobs.store import Store
from tests.histories import without_seconds
from tests.own_tasks import CLOUDS, OwnFolder
from tests.training import alone, go_on, row_of
from tests.unit.language import TEXT, write_folder

MakeSpec = Callable[..., JobSpec]

KINDS: dict[str, dict[str, Any]] = {
    "mlp": {"dropout": 0.3, "batch_norm": True, "scheduler": {"name": "one_cycle"}, "warmup_epochs": 1},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "clip_norm": 0.5, "weight_decay": 0.01},
    "one of torch's optimizers": {"optimizer": "nadam", "batch_size": 7},
    "wide rows": {"task": "digits", "hidden": [100], "batch_size": 64, "scheduler": {"name": "plateau", "patience": 0}},
    "float16": {"precision": "float16", "warmup_epochs": 2, "lr": 0.05},
    "bfloat16": {"precision": "bfloat16", "batch_norm": True},
    "values": {"task": "sine", "epochs": 3},
    "a user's network": {"task": "clouds", "batch_size": 4},
    "pictures": {"task": "pictures", "batch_size": 8},
    "draws from torch's stream": {"task": "noisy", "batch_size": 8},
    "a buffer that is replaced": {"task": "replacing", "batch_size": 8},
    "a language model": {"task": "causal_lm", "data": "text.txt", "tokenizer": "model", "context": 8, "batch_size": 64,
                         "width": 8, "layers": 1, "heads": 2, "max_length": 8, "lr": 0.01, "dropout": 0.1},
}  # fmt: skip

OTHERS = '''
class Pictures(Clouds):
    """Two batch norms around a convolution."""

    name = "pictures"

    def data(self, params, seed):
        labels = np.arange(90) % 3
        return np.random.default_rng(0).normal(labels[:, None, None, None], 0.4, (90, 1, 6, 6)), labels

    def model(self, params, signature):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))

class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x) if self.training else x

class Noisy(Clouds):
    """A layer that draws from torch's own stream."""

    name = "noisy"

    def model(self, params, signature):
        return nn.Sequential(nn.Linear(2, 8), Noise(), nn.ReLU(), nn.Linear(8, 3))

class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean

class Replacing(Clouds):
    """A layer that puts another tensor in the place of its buffer."""

    name = "replacing"

    def model(self, params, signature):
        return nn.Sequential(nn.Linear(2, 8), Mean(), nn.ReLU(), nn.Linear(8, 3))
'''


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "text.txt").write_text(TEXT)
    write_folder(folder / "model")
    return folder


@pytest.fixture
def kinds(write: OwnFolder, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks of KINDS."""
    write(
        "my_tasks",
        CLOUDS + OTHERS,
        named=",".join(f"my_tasks:{name}" for name in ("Clouds", "Pictures", "Noisy", "Replacing")),
    )
    monkeypatch.setenv("GRIDYARD_DATA", str(texts))
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


class Stops:
    """Wishes: each of these jobs is to stop once it has been asked so often."""

    def __init__(self, after: Mapping[int, float], answer: Answer = Answer.GIVE_BACK) -> None:
        self.after, self.answer, self.asked = after, answer, 0

    def __call__(self) -> dict[int, Answer]:
        self.asked += 1
        return {job: self.answer for job, after in self.after.items() if self.asked > after}


def run(
    store: Store, specs: Sequence[JobSpec], wishes: Any = dict, attempt: int = 1, **options: Any
) -> dict[int, Outcome]:
    """What jobs that may train together come to."""
    given = Options(**{"device": "cpu", "checkpoint_seconds": 1000, **options})
    assignments = [Assignment(spec=spec, attempt=attempt, most=8) for spec in specs]
    return {one.job: one for one in train(assignments, store=store, options=given, report=go_on, wishes=wishes)}


def interrupted(
    store: Store, specs: Sequence[JobSpec], draw: random.Random
) -> tuple[dict[int, Outcome], list[Stopped]]:
    """What jobs come to that stop at batches drawn at random, each time taken up by the next attempt; the stops."""
    ended: dict[int, Outcome] = {}
    stops: list[Stopped] = []
    for attempt in range(1, 6):
        left = [spec for spec in specs if spec.job not in ended]
        after = {spec.job: draw.randrange(2, 12) if attempt < 5 else float("inf") for spec in left}
        for job, outcome in run(store, left, Stops(after), attempt).items():
            if isinstance(outcome, Stopped):
                stops.append(outcome)
            else:
                ended[job] = outcome
    return ended, stops


def assert_same(ours: Outcome, theirs: Outcome) -> None:
    assert isinstance(ours, TrainResult), ours
    assert isinstance(theirs, TrainResult), theirs
    assert without_seconds(ours.history) == without_seconds(theirs.history)
    assert list(ours.history.columns()) == list(theirs.history.columns())
    assert (ours.best, ours.metrics, ours.score) == (theirs.best, theirs.metrics, theirs.score)
    assert (ours.best_epoch, ours.epochs) == (theirs.best_epoch, theirs.epochs)


def undisturbed(spec: JobSpec) -> JobSpec:
    """The same job; under another uid it takes none of the checkpoints."""
    return replace(spec, sweep_uid="undisturbed")


@pytest.mark.usefixtures("kinds")
class TestStoppedAtABatch:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_job_of_any_kind_ends_as_if_it_had_not_been(self, make_spec: MakeSpec, store: Store, kind: str) -> None:
        spec = make_spec(**{"epochs": 3, **KINDS[kind]})
        ended, stops = interrupted(store, [spec], random.Random(kind))
        assert any(stop.batch for stop in stops)
        assert all(stop.answer is Answer.GIVE_BACK for stop in stops)
        assert_same(ended[1], run(store, [undisturbed(spec)])[1])

    @pytest.mark.parametrize("kind", ["mlp", "momentum", "float16", "one of torch's optimizers", "a user's network"])
    def test_rows_of_a_pack_stop_and_go_on_as_they_like(self, make_spec: MakeSpec, store: Store, kind: str) -> None:
        """Neighbours go on; those that come back in the middle of an epoch end it before they join others."""
        spec = make_spec(**{**KINDS[kind], "epochs": 4})
        specs = [replace(spec, job=job, seed=job % 2, params={**spec.params, "lr": 0.003 * job}) for job in range(1, 6)]
        ended, stops = interrupted(store, specs, random.Random(kind))
        assert len({(stop.epoch, stop.batch) for stop in stops}) > 3
        for spec in specs:
            alone = run(store, [undisturbed(spec)])[spec.job]
            if "user" in kind:  # mapped: together and alone agree within rounding
                assert ended[spec.job].metrics["val_loss"] == pytest.approx(alone.metrics["val_loss"], rel=1e-3)
            else:
                assert_same(ended[spec.job], alone)

    def test_whatever_the_batch(self, make_spec: MakeSpec, store: Store) -> None:
        """Also before the first, between the last and the evaluation, in the evaluation, and before the test."""
        spec = make_spec(epochs=2, batch_norm=True, dropout=0.2)
        expected = run(store, [undisturbed(spec)])[1]
        seen = set()
        for asked in range(1, 30):
            one = replace(spec, sweep_uid=f"{asked}")
            (first,) = run(store, [one], Stops({1: asked}), attempt=1).values()
            if isinstance(first, TrainResult):
                break
            seen.add((first.epoch, first.batch))
            assert_same(run(store, [one], attempt=2)[1], expected)
        assert seen == {(epoch, batch) for epoch in (0, 1) for batch in range(7)} | {(2, 0)}

    @pytest.mark.parametrize("answer", [Answer.CANCELLED, Answer.CLAIM_LOST])
    def test_what_nobody_wants_leaves_no_checkpoint(self, make_spec: MakeSpec, store: Store, answer: Answer) -> None:
        outcome = run(store, [make_spec()], Stops({1: 4}, answer))[1]
        assert isinstance(outcome, Stopped)
        assert (outcome.answer, outcome.epoch) == (answer, 0)
        assert outcome.batch > 0
        assert not store.exists("1/1/last.safetensors")

    def test_what_has_not_begun_leaves_none_either(self, make_spec: MakeSpec, store: Store) -> None:
        assert run(store, [make_spec()], Stops({1: 0}))[1] == Stopped(job=1, answer=Answer.GIVE_BACK, epoch=0)
        assert not store.exists("1/1/last.safetensors")

    def test_a_pack_that_stops_together_goes_on_together(self, make_spec: MakeSpec, store: Store) -> None:
        spec = make_spec(epochs=3, dropout=0.1)
        specs = [replace(spec, job=job, seed=job) for job in range(1, 5)]
        stopped = run(store, specs, Stops(dict.fromkeys(range(1, 5), 5)))
        assert {outcome.batch for outcome in stopped.values()} == {3}
        sizes = []

        def report(epochs: Sequence[EpochReport], room: int) -> list[Answer]:
            sizes.append((len(epochs), room))
            return [Answer.GO_ON] * len(epochs)

        again = [Assignment(spec=spec, attempt=2, most=8) for spec in specs]
        options = Options(device="cpu", checkpoint_seconds=1000)
        outcomes = list(train(again, store=store, options=options, report=report))
        assert sizes == [(4, 0), (4, 4), (4, 4)], "nobody joins in the middle of an epoch, and others may after it"
        for outcome in outcomes:
            assert_same(outcome, run(store, [undisturbed(specs[outcome.job - 1])])[outcome.job])

    def test_a_job_that_is_to_join_and_to_stop_never_begins(self, make_spec: MakeSpec, store: Store) -> None:
        """It is heard in the middle of an epoch of the others, which go on."""
        spec, options = make_spec(epochs=2), Options(device="cpu", checkpoint_seconds=1000)
        waiting, asked = [Assignment(spec=replace(spec, job=2), attempt=1)], list[int]()

        def joining() -> list[Assignment]:
            coming = list(waiting) if asked else []
            waiting[:] = [] if asked else waiting
            return coming

        def wishes() -> dict[int, Answer]:
            asked.append(1)
            return {2: Answer.CANCELLED} if len(asked) > 3 else {}

        first = Assignment(spec=spec, attempt=1)
        outcomes = list(train([first], store=store, options=options, report=go_on, joining=joining, wishes=wishes))
        assert outcomes[0] == Stopped(job=2, answer=Answer.CANCELLED, epoch=0)
        assert isinstance(outcomes[1], TrainResult)


class Killed(BaseException):
    """As a kill: nothing of the engine runs after it."""


class TestCheckpointsOfLongEpochs:
    @pytest.mark.parametrize("asked", [5, 12, 20])
    def test_a_job_that_is_killed_in_the_middle_goes_on_from_the_clocks_checkpoint(
        self, make_spec: MakeSpec, store: Store, asked: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody said that it is to stop. Each epoch is a long one here, and writing takes no time."""
        monkeypatch.setattr(checkpoint, "SAVING", 0)
        spec, count = make_spec(epochs=5, batch_norm=True, scheduler={"name": "cosine"}), 0

        def wishes() -> dict[int, Answer]:
            nonlocal count
            count += 1
            if count > asked:
                row = row_of(spec)
                checkpoint.resume(row, store)
                if row.at is not None and row.at > (0, 0):
                    raise Killed
            return {}

        with pytest.raises(Killed):
            run(store, [spec], wishes, checkpoint_seconds=1e-6)
        assert_same(run(store, [spec], attempt=2)[1], run(store, [undisturbed(spec)])[1])

    def test_an_epoch_that_is_short_is_not_left_for_a_checkpoint(self, make_spec: MakeSpec, store: Store) -> None:
        looked: list[int] = []

        def report(epochs: Sequence[EpochReport], room: int) -> list[Answer]:
            row = row_of(spec)
            checkpoint.resume(row, store)
            looked.append(-1 if row.at is not None else row.epoch)
            return [Answer.GO_ON]

        for seconds in (0, 1000):
            spec = make_spec(epochs=4, sweep_uid=f"{seconds}")
            given = Options(device="cpu", checkpoint_seconds=seconds)
            list(train([Assignment(spec=spec, attempt=1)], store=store, options=given, report=report))
        assert looked == [0, 1, 2, 3, *[0] * 4]

    def test_a_checkpoint_of_the_format_before_is_read(self, make_spec: MakeSpec, store: Store) -> None:
        spec = make_spec(epochs=4, precision="float16")
        row = row_of(spec)
        pack = alone(row)
        pack.advance()
        pack.advance()
        tensors, facts = tensorfile.unpack(checkpoint.dump(row, pack.state(0)), "new")
        assert not {"epoch", "seconds"} & set(facts)
        del tensors["optimizer/before"]
        old = {**facts, "format": "gridyard checkpoint 3"}
        store.write("1/1/last.safetensors", tensorfile.pack(tensors, old))
        resumed = run(store, [spec], attempt=2)[1]
        assert isinstance(resumed, TrainResult)
        assert resumed.resumed_from == 2
        assert_same(resumed, run(store, [undisturbed(spec)])[1])

    def test_seconds_of_an_epoch_count_on(self, make_spec: MakeSpec) -> None:
        pack = alone(row_of(make_spec()))
        asked = []
        with pytest.raises(Paused), heeding(lambda: asked.append(1) or len(asked) > 3):
            pack.advance()
        before = pack.rows[0].seconds
        assert 0 < before < pack.advance()[0].seconds
        assert pack.rows[0].seconds == 0


class TestTexts:
    def test_a_job_that_trains_nothing_stops_between_two_tokens_and_begins_anew(
        self, make_spec: MakeSpec, store: Store, texts: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRIDYARD_DATA", str(texts))
        spec = make_spec("kogpt2", epochs=1, model="model", prompts=["the cat", "a dog"], max_length=24)
        assert run(store, [spec], Stops({1: 9}))[1] == Stopped(job=1, answer=Answer.GIVE_BACK, epoch=0)
        first, again = run(store, [spec], attempt=2)[1], run(store, [undisturbed(spec)])[1]
        assert isinstance(first, TrainResult)
        assert isinstance(again, TrainResult)
        assert [text["text"] for text in first.samples] == [text["text"] for text in again.samples]

    def test_a_language_model_stops_while_it_writes_its_samples(
        self, make_spec: MakeSpec, store: Store, texts: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All epochs are done: the next attempt tests and writes, and trains nothing."""
        monkeypatch.setenv("GRIDYARD_DATA", str(texts))
        spec = make_spec(**{"epochs": 1, **KINDS["a language model"], "max_length": 30})
        asks = Stops({})
        expected = run(store, [undisturbed(spec)], asks)[1]
        stopped = run(store, [spec], Stops({1: asks.asked - 3}))[1]
        assert stopped == Stopped(job=1, answer=Answer.GIVE_BACK, epoch=1)
        reports: list[Any] = []

        def report(epochs: Sequence[EpochReport], room: int) -> list[Answer]:
            reports.append(epochs)
            return [Answer.GO_ON]

        again, options = Assignment(spec=spec, attempt=2), Options(device="cpu")
        (ended,) = train([again], store=store, options=options, report=report)
        assert reports == []
        assert_same(ended, expected)
        assert isinstance(ended, TrainResult)
        assert ended.resumed_from == 1
