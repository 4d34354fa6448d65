"""Networks of the user's own train together by torch.func, where that is right, and row by row where it is not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from jobs import hall, sizing
from jobs.engine import Options, train
from jobs.forward import Mode
from jobs.pack import Pack
from jobs.sizing import Sizes, agrees
from jobs.spec import Assignment, JobSpec, TrainResult
from jobs.store import Store
from tests.histories import without_seconds
from tests.own_tasks import OwnFolder
from tests.training import go_on, row_of

MakeSpec = Callable[..., JobSpec]

OWN = '''
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from gridyard.task import Field, OwnTask, TrainingParams
from jobs.catalogue.images import MnistParams
from jobs.metrics import METRICS
from jobs.tasks import mnist

NETS = ("residual", "convolution", "embedding", "tied", "batch_norm", "frozen", "constant", "parameter", "lambda",
        "lstm", "padding", "item", "branch", "own_dropout")

class Net(nn.Module):
    """Rows of 6 whole numbers from 0 to 9 to logits of 3 classes."""

    def __init__(self, kind, decay):
        super().__init__()
        self.kind = kind
        if kind in ("embedding", "padding"):
            self.table = nn.Embedding(10, 4, padding_idx=0 if kind == "padding" else None)
        if kind == "convolution":
            self.convolution = nn.Conv1d(1, 4, 3, padding=1)
        if kind == "lstm":
            self.lstm = nn.LSTM(1, 4, batch_first=True)
        self.first = nn.Linear({"embedding": 4, "padding": 4, "convolution": 24, "lstm": 4}.get(kind, 6), 8)
        self.second = nn.Linear(8, 8, bias=kind != "batch_norm")
        self.norm = nn.BatchNorm1d(8) if kind == "batch_norm" else nn.LayerNorm(8)
        self.dropout = nn.Dropout(0.2)
        self.last = nn.Linear(8, 3)
        if kind == "tied":
            self.third = nn.Linear(8, 8)
            self.third.weight = self.second.weight
        if kind == "frozen":
            self.first.requires_grad_(False)
        if kind == "constant":
            self.factors = torch.randn(8)
        if kind == "parameter":
            self.factors = 1 + 10 * decay
        if kind == "lambda":
            self.change = lambda x: x + 10 * decay

    def forward(self, rows):
        x = rows
        if self.kind in ("embedding", "padding"):
            x = self.table(rows.long()).mean(1)
        if self.kind == "convolution":
            x = torch.relu(self.convolution(rows[:, None])).flatten(1)
        if self.kind == "lstm":
            x = self.lstm(rows[:, :, None])[0][:, -1]
        if self.kind == "item":
            x = x * (1 + x.mean().item())
        if self.kind == "branch":
            x = x if x.sum() > 0 else 2 * x
        if self.kind == "own_dropout":
            x = functional.dropout(x, 0.3, self.training)
        x = torch.relu(self.first(x))
        if self.kind in ("constant", "parameter"):
            x = x * self.factors
        if self.kind == "lambda":
            x = self.change(x)
        x = self.dropout(torch.tanh(self.norm(x + self.second(x))))
        if self.kind == "tied":
            x = x + self.third(x)
        return self.last(x)

class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, values):
        return self.factor * values

class Nets(OwnTask):
    name = "nets"
    kind = "classification"
    epochs = 3
    standardise = False

    class Params(TrainingParams):
        net: Literal[NETS] = "residual"

    def data(self, params, seed):
        rows = np.random.default_rng(0).integers(0, 10, (90, 6))
        return rows.astype(np.float32), np.arange(90) % 3

    def model(self, params, signature):
        return Net(params.net, params.weight_decay)

class Scaled(Nets):
    """What lies before and behind the network follows from a job's own numbers, which no buffer holds."""

    name = "scaled"

    def problem(self, params, seed):
        usual = super().problem(params, seed)
        usual.model.after = Times(1 + 10 * params.weight_decay)
        metrics = {name: METRICS[name] for name in ("accuracy", "f1")}
        metrics["largest"] = lambda predictions, truth: predictions.max()
        return replace(usual, feed=Times(1 + seed), metrics=metrics)

class Pictures(Nets):
    """The convolutions of mnist."""

    name = "pictures"
    Params = MnistParams

    def data(self, params, seed):
        draws = np.random.default_rng(0)
        return draws.normal(size=(80, 1, 28, 28)).astype(np.float32), np.arange(80) % 10

    def model(self, params, signature):
        return mnist.cnn(params)
'''
RIGHT = ("residual", "convolution", "embedding", "tied", "batch_norm")
NOT_MAPPED = ("lstm", "padding", "item", "branch", "own_dropout")
TOLERANCE = 1e-4  # relative, of losses; measured was 1e-6


@pytest.fixture(autouse=True)
def nothing_measured(write: OwnFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A task of one file, one thread, and no memory of what other tests found out."""
    write("own_nets", OWN)
    monkeypatch.setattr(hall, "SIZES", Sizes())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def specs(make_spec: MakeSpec) -> Callable[..., list[JobSpec]]:
    """Jobs of one shape, of different seeds and numbers."""

    def make(net: str, **given: Any) -> list[JobSpec]:
        numbers = [{"lr": 0.003 * (1 + seed), "weight_decay": 0.01 * seed} for seed in range(3)]
        return [make_spec("nets", job=1 + seed, seed=seed, net=net, **own, **given) for seed, own in enumerate(numbers)]

    return make


def trained(specs: Sequence[JobSpec], mode: Mode) -> list[list[dict[str, float]]]:
    pack = Pack([row_of(spec) for spec in specs], mode, len(specs))
    for _ in range(3):
        pack.advance()
    return [[report.metrics for report in row.history] for row in pack.rows]


def outcomes(store: Store, specs: Sequence[JobSpec], most: int) -> list[TrainResult]:
    """Through the engine."""
    assignments = [Assignment(spec=spec, attempt=1, most=most) for spec in specs]
    options = Options(device="cpu", checkpoint_seconds=1000)
    found = sorted(train(assignments, store=store, options=options, report=go_on), key=lambda one: one.job)
    assert all(isinstance(one, TrainResult) for one in found), found
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("net", RIGHT)
def test_rows_of_any_network_learn_together_what_they_learn_alone(
    specs: Callable[..., list[JobSpec]], net: str
) -> None:
    row = row_of(specs(net)[0])
    assert row.built.stacked is None
    assert agrees(row, Mode.MAPPED)
    together, alone = trained(specs(net), Mode.MAPPED), trained(specs(net), Mode.ALONE)
    for found, expected in zip(together, alone, strict=True):
        for one, other in zip(found, expected, strict=True):
            for name in ("train_loss", "val_loss"):
                assert one[name] == pytest.approx(other[name], rel=TOLERANCE)


@pytest.mark.parametrize("net", NOT_MAPPED)
def test_what_cannot_be_mapped_is_found_and_trains_row_by_row_with_the_right_result(
    specs: Callable[..., list[JobSpec]], store: Store, net: str
) -> None:
    """torch.func refuses some, and maps Embedding(padding_idx=…) wrongly without a word."""
    assert not agrees(row_of(specs(net)[0]), Mode.MAPPED)
    together = outcomes(store, specs(net), most=8)
    single = [outcomes(store, [spec], most=1)[0] for spec in specs(net)]
    for found, expected in zip(together, single, strict=True):
        assert found.environment["pack"]["mode"] == Mode.ALONE
        assert found.best == expected.best
        assert without_seconds(found.history) == without_seconds(expected.history)


@pytest.mark.parametrize("net", ["frozen", "constant", "parameter", "lambda"])
def test_rows_with_numbers_that_are_neither_trained_nor_buffers_keep_their_own(
    specs: Callable[..., list[JobSpec]], store: Store, net: str
) -> None:
    """Drawn by each job's seed, or made of its parameters: one network's must not serve another."""
    together = outcomes(store, specs(net), most=8)
    single = [outcomes(store, [spec], most=1)[0] for spec in specs(net)]
    for found, expected in zip(together, single, strict=True):
        losses = found.history.columns()["val_loss"]
        assert losses == pytest.approx(expected.history.columns()["val_loss"], rel=TOLERANCE)


@pytest.mark.parametrize("net", ["residual", "frozen", "constant"])
def test_rows_of_equal_numbers_train_together(specs: Callable[..., list[JobSpec]], store: Store, net: str) -> None:
    jobs = [replace(spec, seed=4) for spec in specs(net)]
    for found in outcomes(store, jobs, most=8):
        assert found.environment["pack"] == {"jobs": 3, "mode": Mode.MAPPED}


@pytest.mark.parametrize(("net", "right"), [("residual", True), ("convolution", True), ("padding", False)])
def test_half_the_precision_hides_no_wrong_mapping_and_is_taken_for_none(
    specs: Callable[..., list[JobSpec]], net: str, right: bool
) -> None:
    assert agrees(row_of(specs(net, precision="bfloat16")[0]), Mode.MAPPED) == right


def test_an_error_in_the_self_check_is_no_error_of_the_job(
    specs: Callable[..., list[JobSpec]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("vmap: no")

    monkeypatch.setattr(sizing, "gradients", fail)
    assert Sizes().modes(row_of(specs("residual")[0])) == [Mode.ALONE]


def test_each_row_goes_through_its_own_modules_before_and_behind_the_network(
    specs: Callable[..., list[JobSpec]], store: Store
) -> None:
    jobs = [replace(spec, task="scaled") for spec in specs("residual")]
    together = outcomes(store, jobs, most=8)
    for found, spec in zip(together, jobs, strict=True):
        expected = outcomes(store, [spec], most=1)[0].history.columns()
        assert found.environment["pack"] == {"jobs": 3, "mode": Mode.MAPPED}
        for name in ("train_loss", "val_loss", "train_largest", "val_largest"):
            assert found.history.columns()[name] == pytest.approx(expected[name], rel=TOLERANCE)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_convolutions_learn_together_what_they_learn_alone(make_spec: MakeSpec, batch_norm: bool) -> None:
    """Of other kernels: to within 1e-4 of the loss over 9 steps, and with batch norm, whose zero gradients of the
    biases before it Adam blows up, by sgd."""
    optimizer = "sgd" if batch_norm else "adam"
    fixed = {"model": "cnn", "channels": [3, 5], "hidden": [12], "batch_size": 16, "optimizer": optimizer}
    jobs = [
        make_spec("pictures", job=1 + seed, seed=seed, lr=0.004, dropout=0.1 * seed, batch_norm=batch_norm, **fixed)
        for seed in range(3)
    ]
    assert agrees(row_of(jobs[1]), Mode.MAPPED)
    for found, expected in zip(trained(jobs, Mode.MAPPED), trained(jobs, Mode.ALONE), strict=True):
        for one, other in zip(found, expected, strict=True):
            assert one["train_loss"] == pytest.approx(other["train_loss"], rel=TOLERANCE)
            assert one["val_loss"] == pytest.approx(other["val_loss"], rel=TOLERANCE)
