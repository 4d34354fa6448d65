"""One job while it trains: everything that is its own. A pack is several of these; none looks at another."""

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs import optimizers
from jobs.catalogue import find
from jobs.layers import dropouts
from jobs.memory import Returner
from jobs.metrics import METRICS, OF_LOSS
from jobs.params import TrainingParams
from jobs.problem import Problem, Split
from jobs.randomness import Purpose, drawn_from, dropout_keys, generator, order
from jobs.schedules import LearningRate
from jobs.spec import Assignment, EpochReport, Json
from jobs.stopping import Ranking, Stopper


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best epoch so far."""

    epoch: int
    metrics: dict[str, float]  # of that epoch's report
    weights: dict[str, Tensor]  # the network's state_dict, copied


class Seen(NamedTuple):
    """What a batch gave."""

    losses: Tensor  # as the problem's loss gives them
    outputs: Tensor  # (B, …) of the network; none where no metric needs them


class Row:
    """A job's network, optimizer, learning rate, early stopping, best epoch and history."""

    def __init__(self, assignment: Assignment, device: torch.device, problem: Problem) -> None:
        """Fresh, before its first epoch."""
        self.assignment, self.spec, self.device = assignment, assignment.spec, device
        self.problem, self.net = problem.to(device), problem.model.net
        task = find(self.spec.task)
        params = task.params.model_validate(self.spec.params)
        assert isinstance(params, TrainingParams)  # of every task that trains
        self.params = params
        self.metrics = tuple(task.metrics if problem.metrics is None else problem.metrics)
        measures = METRICS if problem.metrics is None else problem.metrics
        self.measures = {name: measures[name] for name in self.metrics if name in measures}
        self.leaves = [weight for weight in self.net.parameters() if weight.requires_grad]
        self.weights = flattened(self.leaves)
        self.dropouts = dropouts(self.net)
        self.batches = batch_sizes(len(self.problem.train), self.params.batch_size)
        self.optimizer = optimizers.make(self.params, self.weights)
        self.lr = LearningRate(self.params, epochs=self.spec.epochs, steps=len(self.batches))
        self.stopper, self.ranking = Stopper(self.spec.early_stopping), Ranking(self.spec)
        self.best: Best | None = None
        self.history: list[EpochReport] = []
        self.resumed_from = 0
        self.memory = Returner()
        self.saved_at = time.monotonic()  # when `last` was written, or tried, by this process
        self.saving_seconds = 0.0  # how long the last writing of `last` took
        self.warned_at = -math.inf  # when it was last warned that it could not be written

    @property
    def epoch(self) -> int:
        """The last one trained."""
        return len(self.history)

    @property
    def done(self) -> bool:
        return self.epoch >= self.spec.epochs or self.stopper.stopped

    @property
    def diverged(self) -> str | None:
        """The first loss of the last epoch that is not finite."""
        metrics = self.history[-1].metrics
        return next((name for name in ("train_loss", "val_loss") if not math.isfinite(metrics[name])), None)

    def advance(self) -> EpochReport:
        """Train an epoch, evaluate it, and note what follows. The device is waited for once, by `numbers`."""
        started = time.perf_counter()
        trained = self.train_epoch(self.epoch + 1)
        evaluated = self.evaluate(self.problem.val)
        metrics = numbers({"train": trained, "val": evaluated})
        metrics["lr"] = float(self.optimizer.param_groups[0]["lr"])
        seconds = time.perf_counter() - started
        self.history.append(EpochReport(job=self.spec.job, epoch=self.epoch + 1, metrics=metrics, seconds=seconds))
        if not self.diverged:
            self.keep_if_best(metrics)
            self.stopper.update(metrics)
            self.lr.after_epoch(metrics["val_loss"])
        return self.history[-1]

    def train_epoch(self, epoch: int) -> dict[str, Tensor]:
        """One pass over the training rows; its loss and metrics are those of the outputs as each batch gave them."""
        self.net.train()
        rows = order(len(self.problem.train), self.spec.seed, epoch).to(self.device)
        keys = dropout_keys(len(self.batches), self.spec.seed, epoch).to(self.device)
        steps = zip(torch.split(rows, self.batches), keys.unbind(), strict=True)
        with drawn_from(self.spec.seed, Purpose.EPOCH, epoch, device=self.device):
            seen = [self.step(batch, key, number) for number, (batch, key) in enumerate(steps)]
        return self.judge(seen, self.problem.train.truth.index_select(0, rows))

    def step(self, rows: Tensor, key: Tensor, number: int) -> Seen:
        """One optimizer step, the number-th of its epoch, on these training rows; what it saw before it learned."""
        for layer in self.dropouts:
            layer.key.copy_(key)
        inputs = self.problem.feed(self.problem.train.inputs.index_select(0, rows))
        if self.problem.augment is not None:
            draws = generator(self.spec.seed, Purpose.AUGMENT, self.epoch + 1, number)
            inputs = self.problem.augment(inputs, draws)
        seen = self.look(inputs, self.problem.train.targets.index_select(0, rows))
        gradients = torch.autograd.grad(seen.losses.mean(), self.leaves)
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=self.weights.grad)
        if self.params.clip_norm is not None:
            nn.utils.clip_grad_norm_([self.weights], self.params.clip_norm)
        self.optimizer.param_groups[0]["lr"] = self.lr.value
        with torch.no_grad():
            self.optimizer.step()
        self.lr.after_step()
        self.memory.tick()
        return Seen(seen.losses.detach(), seen.outputs.detach())

    def look(self, inputs: Tensor, targets: Tensor) -> Seen:
        """The network's outputs for a batch, and their losses; in bfloat16 where the job says so."""
        if self.params.precision == "float32":
            outputs: Tensor = self.net(inputs)
        else:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                outputs = self.net(inputs)
            outputs = outputs.float()
        losses = self.problem.loss(outputs, targets)
        return Seen(losses, outputs if self.measures else outputs.new_empty(0))  # a language model's fill the memory

    def evaluate(self, split: Split) -> dict[str, Tensor]:
        """Loss and metrics of a split, still on the device."""
        self.net.eval()
        rows = self.problem.evaluation_rows
        with torch.inference_mode():
            batches = zip(torch.split(split.inputs, rows), torch.split(split.targets, rows), strict=True)
            return self.judge([self.look(self.problem.feed(batch), targets) for batch, targets in batches], split.truth)

    def test(self) -> dict[str, Tensor]:
        """Loss and metrics of the test part with the best weights, which the network keeps."""
        assert self.best is not None  # an epoch that did not diverge has a best
        self.net.load_state_dict(self.best.weights)
        return self.evaluate(self.problem.test)

    @torch.no_grad()
    def judge(self, seen: list[Seen], truth: Tensor) -> dict[str, Tensor]:
        """Loss and metrics of all batches together, as 0-dim tensors."""
        loss = torch.cat([part.losses for part in seen]).mean()
        found = {"loss": loss, **{name: OF_LOSS[name](loss) for name in self.metrics if name in OF_LOSS}}
        if self.measures:
            predictions = self.problem.model.after(torch.cat([part.outputs for part in seen]))
            found |= {name: measure(predictions, truth) for name, measure in self.measures.items()}
        return found

    def write(self) -> list[Json]:
        """What the network writes with the weights it has; nothing, where it is no language model."""
        return [] if self.problem.write is None else self.problem.write()

    def facts(self) -> Json:
        """What its result depends on besides its spec."""
        parts = ("train", "val", "test")
        return {
            "data": self.problem.fingerprint,
            "rows": {name: len(getattr(self.problem, name)) for name in parts},
            "parameters": sum(weight.numel() for weight in self.net.parameters()),
            **({"notes": list(self.problem.notes)} if self.problem.notes else {}),
            **({"code": self.problem.code} if self.problem.code else {}),
        }

    def keep_if_best(self, metrics: dict[str, float]) -> None:
        if self.best is None or self.ranking.better(metrics, self.best.metrics):
            weights = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
            self.best = Best(epoch=self.epoch, metrics=metrics, weights=weights)


def flattened(leaves: list[nn.Parameter]) -> nn.Parameter:
    """All trained weights as one vector (N,), with room for its gradient; the leaves become views of it.

    So an update is a few operations on one tensor, whatever the network, and a job is one row of numbers.
    """
    vector = nn.Parameter(torch.cat([leaf.detach().reshape(-1) for leaf in leaves]))
    vector.grad = torch.zeros_like(vector)
    parts = torch.split(vector.detach(), [leaf.numel() for leaf in leaves])
    for leaf, part in zip(leaves, parts, strict=True):
        leaf.data = part.view_as(leaf)
    return vector


def batch_sizes(rows: int, batch_size: int) -> list[int]:
    """Sizes of an epoch's batches. A last one of a single row joins the one before it: batch norm needs two."""
    sizes = [batch_size] * (rows // batch_size)
    left = rows % batch_size
    if left == 1 and sizes:
        sizes[-1] += 1
    elif left:
        sizes.append(left)
    return sizes


def numbers(parts: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    """{"val": {"loss": …}} as {"val_loss": 0.5}, with one transfer from the device."""
    named = {f"{part}_{name}": value for part, values in parts.items() for name, value in values.items()}
    return dict(zip(named, torch.stack(list(named.values())).tolist(), strict=True)) if named else {}
