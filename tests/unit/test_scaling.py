"""float16: each row's loss has its own factor, which goes as torch.amp.GradScaler's; all else is as in float32."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional

from jobs import checkpoint, optimizers, scaling
from jobs.forward import Mode
from jobs.pack import Pack
from jobs.params import TrainingParams
from jobs.pausing import Paused, heeding
from jobs.randomness import Purpose, drawn_from, order
from jobs.row import Row
from jobs.scaling import LOST, Scaled, unscaled
from jobs.spec import Failure, JobSpec, Outcome
from jobs.states import FailureReason
from tests.training import row_of

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]
CPU = torch.device("cpu")
N, STEPS, EVERY = 32, 24, 4  # numbers of a row, steps, and after how many the factor doubles
RATE, DECAY = 0.01, 0.1
OF_TORCH: dict[str, Callable[[list[nn.Parameter]], optim.Optimizer]] = {
    "sgd": lambda weights: optim.SGD(weights, RATE, momentum=0.5, weight_decay=DECAY),
    "adam": lambda weights: optim.Adam(weights, RATE, weight_decay=DECAY),
    "adamw": lambda weights: optim.AdamW(weights, RATE, weight_decay=DECAY),
    "nadam": lambda weights: optim.NAdam(weights, RATE, weight_decay=DECAY),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scaled(name: str, rows: int = 1) -> tuple[Scaled, TrainingParams]:
    params = TrainingParams(optimizer=name, momentum=0.5, weight_decay=DECAY, precision="float16")  # type: ignore[arg-type]
    optimizer = Scaled(optimizers.make(params, N, CPU))
    optimizer.add([{}] * rows)
    return optimizer, params


def gradients_of(row: int) -> Iterator[Tensor]:
    """Some are not finite, at other steps in each row."""
    draws = torch.Generator().manual_seed(row)
    for step in range(STEPS):
        gradient = torch.randn(N, generator=draws)
        if (step + row) % 7 == 2 or step < row:
            gradient[step % N] = (torch.inf, -torch.inf, torch.nan)[step % 3]
        yield gradient


def plain(name: str, row: int) -> tuple[list[float], Tensor]:
    """The factor after each step, and the weights at the end, of torch's own."""
    weights = nn.Parameter(torch.ones(N))
    optimizer, scaler = OF_TORCH[name]([weights]), GradScaler("cpu", growth_interval=EVERY)
    factors = []
    for gradient in gradients_of(row):
        weights.grad = scaler.scale(gradient)
        scaler.step(optimizer)
        scaler.update()
        factors.append(scaler.get_scale())
    return factors, weights.detach()


@pytest.mark.parametrize("name", OF_TORCH)
def test_rows_step_or_do_not_as_with_torchs_scaler(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Factors and weights, bit for bit; in three epochs, each row with overflows of its own."""
    monkeypatch.setattr(scaling, "INTERVAL", EVERY)
    rows, epochs, everyone = 3, 3, slice(0, 3)
    optimizer, params = scaled(name, rows)
    weights, steps = torch.ones(rows, N), STEPS // epochs
    gradients = [*zip(*(gradients_of(row) for row in range(rows)), strict=True)]
    factors = []
    for epoch in range(epochs):
        done = [epoch * steps] * rows
        optimizer.begin(everyone)
        optimizer.prepare(everyone, [params] * rows, done, np.full((rows, steps), RATE))
        for number in range(steps):
            with torch.no_grad():
                optimizer.step(weights, torch.stack(gradients[epoch * steps + number]), number)
            factors.append(optimizer.scales(everyone).tolist())
    for row in range(rows):
        expected, ends = plain(name, row)
        assert [factor[row] for factor in factors] == expected
        assert torch.equal(weights[row], ends)
    assert len(set(map(tuple, factors))) > 5, "they went up and down"


def test_a_factor_that_has_fallen_to_nothing_makes_the_loss_not_finite() -> None:
    optimizer, params = scaled("adam", rows=2)
    everyone, steps = slice(0, 2), 50
    optimizer.prepare(everyone, [params] * 2, [0, 0], np.full((2, steps), RATE))
    for number in range(steps):
        optimizer.step(torch.ones(2, N), torch.stack([torch.full((N,), torch.inf), torch.ones(N)]), number)
    scales = optimizer.scales(everyone)
    assert scales[0] < LOST
    lost, fine = unscaled(torch.ones(2), scales).tolist()
    assert np.isnan(lost)
    assert fine == 1


def test_a_job_whose_factor_has_fallen_to_nothing_diverges(
    make_spec: MakeSpec, train_one: TrainOne, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "START", LOST / 2)
    outcome = train_one(make_spec(precision="float16"))
    assert isinstance(outcome, Failure)
    assert outcome.reason is FailureReason.DIVERGED
    assert "precision: bfloat16" in outcome.error


def plain_losses(spec: JobSpec, row: Row) -> list[float]:
    """val_loss of each epoch of a plain loop with torch's autocast and scaler."""
    problem, losses = row.problem, []
    with drawn_from(spec.seed, Purpose.INIT):
        net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer, scaler = optim.Adam(net.parameters(), spec.params["lr"]), GradScaler("cpu")
    for epoch in range(1, spec.epochs + 1):
        for rows in order(len(problem.train), spec.seed, epoch).split(spec.params["batch_size"]):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                outputs = net(problem.train.inputs[rows])
            loss = functional.cross_entropy(outputs.float(), problem.train.targets[rows])
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
            outputs = net(problem.val.inputs).float()
        losses.append(functional.cross_entropy(outputs, problem.val.targets).item())
    return losses


def test_a_job_trains_as_a_plain_loop_with_autocast_and_torchs_scaler(make_spec: MakeSpec, train_one: TrainOne) -> None:
    spec = make_spec(epochs=5, lr=0.01, hidden=[32, 16], batch_size=16, dropout=0.0, precision="float16")
    found = train_one(spec).history.columns()["val_loss"]
    assert found == pytest.approx(plain_losses(spec, row_of(spec)), rel=0.01)


class TestEachRowHasItsOwnFactor:
    @pytest.fixture(autouse=True)
    def busy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Factors that overflow at the start, and double often."""
        monkeypatch.setattr(scaling, "START", 2.0**22)
        monkeypatch.setattr(scaling, "INTERVAL", 5)

    @pytest.fixture
    def rows(self, make_spec: MakeSpec) -> Callable[..., list[Row]]:
        def make(jobs: list[int]) -> list[Row]:
            specs = [make_spec(epochs=9, lr=0.003 * job, batch_size=16, precision="float16") for job in jobs]
            return [row_of(replace(spec, job=job, seed=job)) for spec, job in zip(specs, jobs, strict=True)]

        return make

    def numbers(self, pack: Pack, job: int) -> tuple[Any, ...]:
        place = next(place for place, row in enumerate(pack.rows) if row.spec.job == job)
        state = {name: value.tolist() for name, value in pack.state(place).optimizer.items()}
        return pack.weights[place].tolist(), state, [report.metrics for report in pack.rows[place].history]

    def test_which_does_not_depend_on_the_pack(self, rows: Callable[..., list[Row]]) -> None:
        together, single = Pack(rows([1, 2, 3, 4]), Mode.STACKED, 4), Pack(rows([3]), Mode.STACKED, 1)
        for pack in (together, single):
            pack.advance()
            pack.advance()
        together.drop([1])
        for pack in (together, single):
            pack.advance()
        assert self.numbers(together, 3) == self.numbers(single, 3)
        factors = [self.numbers(together, job)[1]["scale"] for job in (2, 3, 4)]
        assert max(factors) < 2.0**22
        assert all(self.numbers(together, job)[1]["skipped"] > 0 for job in (2, 3, 4))

    def test_and_a_job_that_was_interrupted_goes_on_with_it(self, rows: Callable[..., list[Row]]) -> None:
        undisturbed, pack = Pack(rows([2]), Mode.STACKED, 1), Pack(rows([2]), Mode.STACKED, 1)
        pack.advance()
        pack.advance()
        ((row, state),) = pack.states()
        (again,) = rows([2])
        checkpoint.restore(again, checkpoint.dump(row, state), "a checkpoint")
        resumed = Pack([again], Mode.STACKED, 1)
        resumed.advance()
        resumed.advance()
        for _ in range(4):
            undisturbed.advance()
        ours, theirs = self.numbers(resumed, 2), self.numbers(undisturbed, 2)
        assert ours == theirs

    @pytest.mark.parametrize("batch", range(1, 6))
    def test_also_in_the_middle_of_an_epoch_in_which_steps_were_left_out(self, make_spec: MakeSpec, batch: int) -> None:
        """A step that was left out leaves its learning rate to the next: all rates differ here."""
        spec = make_spec(epochs=3, batch_size=16, precision="float16", scheduler={"name": "one_cycle"}, job=2)
        undisturbed, pack, asked = Pack([row_of(spec)], Mode.STACKED, 1), Pack([row_of(spec)], Mode.STACKED, 1), []
        with pytest.raises(Paused), heeding(lambda: asked.append(1) or len(asked) > batch + 1):
            pack.advance()
        ((row, state),) = pack.states()
        assert state.progress is not None
        assert state.progress.at == (batch, 0)
        again = row_of(spec)
        checkpoint.restore(again, checkpoint.dump(row, state), "a checkpoint")
        resumed = Pack([again], Mode.STACKED, 1)
        for one in (resumed, undisturbed):
            one.advance()
            one.advance()
        assert self.numbers(resumed, 2) == self.numbers(undisturbed, 2)
        assert self.numbers(undisturbed, 2)[1]["skipped"] > 2
