"""The training loop: against plain PyTorch, one job beside others, and how jobs end."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.nn import functional

from jobs import devices
from jobs.built import batch_sizes
from jobs.ends import guarded
from jobs.engine import Options, check, train
from jobs.errors import SettingsError, StoreError
from jobs.history import History
from jobs.randomness import Purpose, drawn_from, order
from jobs.spec import Answer, Assignment, EarlyStopping, EpochReport, Failure, JobSpec, Outcome, Stopped, TrainResult
from jobs.states import FailureReason
from jobs.store import Store
from tests.histories import without_seconds
from tests.training import alone, answering, go_on, row_of

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]

OPTIMIZERS = {
    "sgd": lambda weights, lr: optim.SGD(weights, lr, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda weights, lr: optim.Adam(weights, lr, weight_decay=0.01),
    "adamw": lambda weights, lr: optim.AdamW(weights, lr, weight_decay=0.01),
    "rmsprop": lambda weights, lr: optim.RMSprop(weights, lr, momentum=0.9, weight_decay=0.01),
}
EPOCHS, LR = 4, 0.003


def plain_losses(spec: JobSpec, clip_norm: float | None) -> list[float]:
    """val_loss of each epoch as a plain PyTorch loop gives it: modules, torch.optim, torch's scheduler."""
    problem = row_of(spec).problem
    norm = nn.BatchNorm1d if spec.params["batch_norm"] else nn.Identity
    with drawn_from(spec.seed, Purpose.INIT):
        net = nn.Sequential(
            nn.Linear(4, 16), norm(16), nn.ReLU(), nn.Linear(16, 8), norm(8), nn.ReLU(), nn.Linear(8, 3)
        )
    optimizer = OPTIMIZERS[spec.params["optimizer"]](net.parameters(), LR)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    losses = []
    for epoch in range(1, EPOCHS + 1):
        net.train()
        for rows in order(len(problem.train), spec.seed, epoch).split(16):
            optimizer.zero_grad()
            functional.cross_entropy(net(problem.train.inputs[rows]), problem.train.targets[rows]).backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(net.parameters(), clip_norm)
            optimizer.step()
        scheduler.step()
        net.eval()
        with torch.no_grad():
            losses.append(functional.cross_entropy(net(problem.val.inputs), problem.val.targets).item())
    return losses


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_job_trains_as_plain_pytorch_does(
    make_spec: MakeSpec, train_one: TrainOne, optimizer: str, clip_norm: float | None
) -> None:
    """Same weights at the start, same batches, torch's optimizer, clipping and scheduler: the same losses."""
    spec = make_spec(
        "iris",
        epochs=EPOCHS,
        lr=LR,
        optimizer=optimizer,
        momentum=0.9,
        nesterov=True,
        weight_decay=0.01,
        clip_norm=clip_norm,
        batch_norm=optimizer == "sgd",  # the others blow up the zero gradient of a bias before it, in their own ways
        dropout=0.0,
        scheduler={"name": "step", "step_size": 2, "gamma": 0.5},
    )
    result = train_one(spec)
    assert result.history.columns()["val_loss"] == pytest.approx(plain_losses(spec, clip_norm), rel=1e-5)


class TestReports:
    def test_each_epoch_is_reported_with_losses_metrics_rate_and_seconds(
        self, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        reports: list[EpochReport] = []
        result = train_one(make_spec(job=5, lr=0.25), answer=lambda report: reports.append(report) or Answer.GO_ON)
        assert [(report.job, report.epoch) for report in reports] == [(5, 1), (5, 2), (5, 3)]
        names = {f"{part}_{name}" for part in ("train", "val") for name in ("loss", "accuracy", "f1")}
        assert set(reports[0].metrics) == {*names, "lr"}
        assert reports[0].metrics["lr"] == 0.25
        assert all(report.seconds > 0 for report in reports)
        assert result.history == History.of(reports)

    def test_the_result_is_that_of_the_best_epoch(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        result = train_one(make_spec(epochs=20, lr=0.1))
        best = max(result.history.epochs(), key=lambda epoch: (epoch["val_accuracy"], -epoch["val_loss"]))
        assert result.best_epoch == best["epoch"] < 20
        assert result.score == best["val_accuracy"]
        parts = {name.partition("_")[0] for name in result.metrics}
        assert parts == {"train", "val", "test"}
        measured = {name: value for name, value in best.items() if name not in ("epoch", "seconds", "lr")}
        assert {name: result.metrics[name] for name in measured} == measured
        assert result.epochs == 20
        assert result.seconds == sum(result.history.columns()["seconds"])

    def test_train_metrics_are_those_of_the_batches_as_they_were_learned(
        self, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        """With one batch an epoch, the loss of an epoch is that of the weights before it."""
        spec = make_spec(epochs=2, batch_size=1000, dropout=0.0)
        before = alone(row_of(spec)).evaluate("train")["loss"].item()
        assert train_one(spec).history.columns()["train_loss"][0] == pytest.approx(before, rel=1e-5)


class TestStopping:
    def test_a_job_stops_early_and_keeps_its_best(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        stopping = EarlyStopping(monitor="val_loss", patience=3)
        result = train_one(make_spec(epochs=200, lr=0.1, early_stopping=stopping))
        losses = result.history.columns()["val_loss"]
        assert result.epochs < 200
        assert result.best_epoch == result.epochs - 3 == losses.index(min(losses)) + 1
        assert result.metrics["val_loss"] == min(losses)

    @pytest.mark.parametrize("answer", [Answer.CANCELLED, Answer.GIVE_BACK, Answer.CLAIM_LOST])
    def test_a_job_stops_in_the_epoch_whose_answer_says_so(
        self, make_spec: MakeSpec, train_one: TrainOne, store: Store, answer: Answer
    ) -> None:
        def at_second(report: EpochReport) -> Answer:
            return answer if report.epoch == 2 else Answer.GO_ON

        outcome = train_one(make_spec(job=4, epochs=5), answer=at_second, checkpoint_seconds=1000)
        assert outcome == Stopped(job=4, answer=answer, epoch=2)
        assert store.exists("4/1/last.safetensors") == (answer is Answer.GIVE_BACK)

    def test_a_job_that_is_given_back_in_its_last_epoch_ends_instead(
        self, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        outcome = train_one(make_spec(epochs=1), answer=lambda report: Answer.GIVE_BACK)
        assert isinstance(outcome, TrainResult)


class TestFailures:
    def test_a_loss_that_is_not_finite_ends_the_job_as_diverged(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        reports: list[EpochReport] = []
        spec = make_spec("sine", epochs=50, lr=100.0, optimizer="sgd", scheduler=None)
        outcome = train_one(spec, answer=lambda report: reports.append(report) or Answer.GO_ON)
        assert isinstance(outcome, Failure)
        assert (outcome.reason, outcome.epoch) == (FailureReason.DIVERGED, reports[-1].epoch)
        assert f"train_loss was not finite in epoch {outcome.epoch}" in outcome.error
        assert not math.isfinite(reports[-1].metrics["train_loss"])

    def test_an_error_ends_its_job_alone(self, make_spec: MakeSpec, store: Store) -> None:
        """One fails while it is built, one while it trains, one diverges: the fourth has the numbers it has alone."""
        good = make_spec(job=1)
        specs = [
            replace(make_spec(job=2), task="nonsense"),
            make_spec(job=3, batch_size=1, batch_norm=True),
            good,
            make_spec("sine", job=4, lr=100.0, optimizer="sgd", epochs=50),
        ]
        assignments = [Assignment(spec=spec, attempt=1) for spec in specs]
        outcomes = {
            outcome.job: outcome
            for outcome in train(assignments, store=store, options=Options(device="cpu"), report=go_on)
        }
        assert outcomes[2].error.startswith("there is no task 'nonsense'")
        assert outcomes[3].error.startswith("ValueError: batch_norm needs batches of at least two rows; given batch_s")
        assert [outcomes[job].reason for job in (2, 3, 4)] == ["error", "error", "diverged"]
        (alone,) = train([Assignment(spec=good, attempt=1)], store=store, options=Options(device="cpu"), report=go_on)
        assert without_seconds(outcomes[1].history) == without_seconds(alone.history)
        assert outcomes[1].best == alone.best

    def test_the_first_line_of_an_error_is_its_message_and_the_traceback_lies_below(self, make_spec: MakeSpec) -> None:
        """Without what PostgreSQL refuses (NUL) and what is no text (half of a character), and without passwords."""

        def fail() -> None:
            raise ValueError("no file\0 'a\udcff' at ftp://ana:pw@host\nsecond line")

        failure = guarded(Assignment(spec=make_spec(job=3), attempt=1), 4, fail)
        assert isinstance(failure, Failure)
        assert (failure.job, failure.reason, failure.epoch) == (3, FailureReason.ERROR, 4)
        first, second, _, third, *_ = failure.error.splitlines()
        assert first == r"ValueError: no file 'a\udcff' at ftp://ana:***@host"
        assert (second, third) == ("second line", "Traceback (most recent call last):")
        assert "in fail" in failure.error
        assert "ana:pw" not in failure.error

    def test_an_error_without_a_message_is_named(self, make_spec: MakeSpec) -> None:
        def fail() -> None:
            raise AssertionError

        failure = guarded(Assignment(spec=make_spec(), attempt=1), 0, fail)
        assert isinstance(failure, Failure)
        assert failure.error.splitlines()[0] == "AssertionError"

    def test_what_a_report_raises_ends_the_loop(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        def broken(report: EpochReport) -> Answer:
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            train_one(make_spec(), answer=broken)

    @pytest.mark.parametrize("device", ["cuda:99", "nonsense", "meta"])
    def test_a_device_that_is_not_there_is_a_wrong_setting(
        self, make_spec: MakeSpec, train_one: TrainOne, device: str
    ) -> None:
        """Said by `check` before any job is taken, and by `train`, with what there is instead."""
        with pytest.raises(SettingsError, match=f"device '{device}': this machine has only .*cpu; give"):
            check(Options(device=device))
        with pytest.raises(SettingsError, match=device):
            train_one(make_spec(), device=device)

    def test_a_device_that_is_there_is_tried_out(self) -> None:
        check(Options(device="cpu"))
        check(Options(device="auto"))
        with pytest.raises(SettingsError, match="device 'meta' is there but does not work"):
            devices.try_out(torch.device("meta"))  # as a broken GPU: it takes tensors and computes nothing


class TestStoreFails:
    """A checkpoint is a help: without one a job trains on. A best model that cannot be kept is a failure."""

    @pytest.fixture
    def away(self, store: Store, tmp_path: Path) -> Store:
        """Its folder is a file, so that everything fails, also for root."""
        (tmp_path / "store").write_text("no folder")
        with pytest.raises(StoreError):
            store.write("1/1/a", b"x")
        return store

    def test_a_job_whose_checkpoints_cannot_be_written_ends_as_one_without(
        self, make_spec: MakeSpec, train_one: TrainOne, away: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        result = train_one(make_spec(epochs=5), checkpoint_seconds=0)
        (warning,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert warning.startswith("job 1, epoch 1: no checkpoint, training goes on without: store "), (
            "one, not one an epoch"
        )
        undisturbed = train_one(make_spec(epochs=5), checkpoint_seconds=1000)
        assert without_seconds(result.history) == without_seconds(undisturbed.history)

    def test_it_is_tried_again_when_the_next_is_due(
        self, make_spec: MakeSpec, train_one: TrainOne, away: Store, tmp_path: Path
    ) -> None:
        def back(report: EpochReport) -> Answer:
            if report.epoch == 3:
                (tmp_path / "store").unlink()
            return Answer.GO_ON

        train_one(make_spec(epochs=5), checkpoint_seconds=0, answer=back)
        assert away.exists("1/1/last.safetensors")

    def test_a_job_is_given_back_all_the_same(
        self, make_spec: MakeSpec, train_one: TrainOne, away: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        outcome = train_one(make_spec(), answer=lambda report: Answer.GIVE_BACK, checkpoint_seconds=1000)
        assert outcome == Stopped(job=1, answer=Answer.GIVE_BACK, epoch=1)
        assert "no checkpoint" in caplog.text

    def test_a_store_that_cannot_be_read_lets_a_job_start_afresh(
        self, make_spec: MakeSpec, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        given: dict[str, Any] = {"options": Options(device="cpu", checkpoint_seconds=1000), "report": go_on}
        first = Assignment(spec=make_spec(), attempt=1)
        (_,) = train([first], store=store, options=given["options"], report=answering(lambda epoch: Answer.GIVE_BACK))
        assert store.exists("1/1/last.safetensors")
        (resumed,) = train([replace(first, attempt=2)], store=Unreadable(store.url), **given)
        assert (resumed.resumed_from, resumed.epochs) == (0, 3)
        assert caplog.text.count("job 1 starts afresh") == 2, "both attempts' were looked for"

    def test_a_best_model_that_cannot_be_kept_fails_the_job(
        self, make_spec: MakeSpec, train_one: TrainOne, away: Store
    ) -> None:
        outcome = train_one(make_spec(), small_model_bytes=100)
        assert isinstance(outcome, Failure)
        assert outcome.error.startswith("StoreError: store ")


class Unreadable(Store):
    """A store that is away."""

    def exists(self, path: str) -> bool:
        raise StoreError("store s3://yard: no answer")


class TestOneJobIsOneRow:
    def test_outcomes_come_as_each_job_ends(self, make_spec: MakeSpec, store: Store) -> None:
        specs = [make_spec(job=job, epochs=epochs) for job, epochs in ((1, 3), (2, 1), (3, 2))]
        assignments = [Assignment(spec=spec, attempt=1) for spec in specs]
        outcomes = train(assignments, store=store, options=Options(device="cpu"), report=go_on)
        assert [outcome.job for outcome in outcomes] == [2, 3, 1]

    def test_training_leaves_torchs_global_stream_as_it_was(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        torch.manual_seed(3)
        before = torch.get_rng_state()
        train_one(make_spec(dropout=0.5))
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_global_stream_changes_no_number(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        results = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            results.append(train_one(make_spec(dropout=0.5)))
        assert without_seconds(results[0].history) == without_seconds(results[1].history)

    def test_another_seed_gives_other_numbers(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        first, second = (train_one(make_spec(seed=seed, split_seed=9)) for seed in (0, 1))
        assert without_seconds(first.history)[0] != without_seconds(second.history)[0]

    def test_nothing_is_written_to_stdout(
        self, make_spec: MakeSpec, train_one: TrainOne, capfd: pytest.CaptureFixture[str]
    ) -> None:
        train_one(make_spec(), checkpoint_seconds=0)
        assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("rows", "batch_size", "expected"),
    [
        (90, 16, [16, 16, 16, 16, 16, 10]),
        (33, 16, [16, 17]),
        (32, 16, [16, 16]),
        (5, 16, [5]),
        (1, 16, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_a_last_batch_of_one_row_joins_the_one_before(rows: int, batch_size: int, expected: list[int]) -> None:
    assert batch_sizes(rows, batch_size) == expected


def test_a_job_says_where_it_was_trained(make_spec: MakeSpec, train_one: TrainOne) -> None:
    environment = train_one(make_spec(), threads=1).environment
    assert environment["device"] == "cpu"
    assert environment["threads"] == 1
    assert environment["torch"] == torch.__version__.partition("+")[0]
    assert environment["rows"] == {"train": 90, "val": 30, "test": 30}
    assert environment["parameters"] == 4 * 16 + 16 + 16 * 8 + 8 + 8 * 3 + 3
    assert len(environment["data"]) == 64


def test_small_models_come_with_the_result_and_large_ones_go_to_the_store(
    make_spec: MakeSpec, train_one: TrainOne, store: Store
) -> None:
    small = train_one(make_spec(job=3), attempt=2).best
    large = train_one(make_spec(job=3), attempt=2, small_model_bytes=100).best
    assert (small.path, large.content) == (None, None)
    assert large.path == "3/2/best.safetensors"
    assert store.read(large.path) == small.content
    assert (large.sha256, large.size) == (small.sha256, len(small.content))
