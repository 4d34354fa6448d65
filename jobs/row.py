"""One job while it trains: everything that is its own. A pack is several of these; none looks at another."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jobs import optimizers, tasks
from jobs.catalogue import find
from jobs.layers import dropouts
from jobs.metrics import measure
from jobs.problem import Split
from jobs.randomness import Purpose, drawn_from, dropout_keys, order
from jobs.schedules import LearningRate
from jobs.spec import Assignment, EpochReport
from jobs.stopping import Ranking, Stopper

EVALUATION_ROWS = 4096  # of one forward pass without gradients: bounds its memory


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best epoch so far."""

    epoch: int
    metrics: dict[str, float]  # of that epoch's report
    weights: dict[str, Tensor]  # the network's state_dict, copied


class Row:
    """A job's network, optimizer, learning rate, early stopping, best epoch and history."""

    def __init__(self, assignment: Assignment, device: torch.device) -> None:
        """Fresh, before its first epoch."""
        self.assignment, self.spec, self.device = assignment, assignment.spec, device
        module, self.params = tasks.load(self.spec.task, self.spec.params)
        with drawn_from(self.spec.seed, Purpose.INIT):
            self.problem = module.build(self.params, self.spec.seed).to(device)
        self.net, self.metrics = self.problem.model.net, find(self.spec.task).metrics
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
        self.saved_at = time.monotonic()  # when `last` was written, or tried, by this process
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
        outputs = [self.step(batch, key) for batch, key in steps]
        return self.judge(torch.cat(outputs), self.problem.train.take(rows))

    def step(self, rows: Tensor, key: Tensor) -> Tensor:
        """One optimizer step on these training rows; returns the outputs (B, …) it learned from."""
        for layer in self.dropouts:
            layer.key.copy_(key)
        outputs: Tensor = self.net(self.problem.train.inputs.index_select(0, rows))
        loss = self.problem.loss(outputs, self.problem.train.targets.index_select(0, rows)).mean()
        gradients = torch.autograd.grad(loss, self.leaves)
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=self.weights.grad)
        if self.params.clip_norm is not None:
            nn.utils.clip_grad_norm_([self.weights], self.params.clip_norm)
        self.optimizer.param_groups[0]["lr"] = self.lr.value
        with torch.no_grad():
            self.optimizer.step()
        self.lr.after_step()
        return outputs.detach()

    def evaluate(self, split: Split) -> dict[str, Tensor]:
        """Loss and metrics of a split, still on the device."""
        self.net.eval()
        with torch.inference_mode():
            outputs = torch.cat([self.net(inputs) for inputs in torch.split(split.inputs, EVALUATION_ROWS)])
            return self.judge(outputs, split)

    @torch.no_grad()
    def judge(self, outputs: Tensor, split: Split) -> dict[str, Tensor]:
        """Loss and metrics of these outputs (N, …), as 0-dim tensors."""
        loss = self.problem.loss(outputs, split.targets).mean()
        return {"loss": loss, **measure(self.metrics, self.problem.model.after(outputs), split.truth)}

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
    return dict(zip(named, torch.stack(list(named.values())).tolist(), strict=True))
