"""From the parts of a user's own task to what the engine trains, each held to what it must be.

A few rows go through network and loss when a job is built, so that a wrong shape is told before an epoch has begun.
"""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from jobs import logits, losses
from jobs.layers import Standardise, Unstandardise, stateless_dropout
from jobs.metrics import METRICS, Metric
from jobs.own import KINDS, OwnTask, refuse, shown
from jobs.own_rows import Rows, parts_of
from jobs.own_trial import ROWS, try_out
from jobs.params import TrainingParams
from jobs.problem import Model, Problem, Signature, Split


@dataclass(frozen=True)
class OwnCode:
    """A user's own task as the engine sees every task: `build` and `model`."""

    own: OwnTask

    def build(self, params: TrainingParams, seed: int) -> Problem:
        problem = self.own.problem(params, seed)
        if not isinstance(problem, Problem):
            refuse(self.own, f"its problem is {shown(problem)}; allowed is a jobs.problem.Problem")
        metrics = all_metrics(self.own) if problem.metrics is None else problem.metrics
        return replace(problem, metrics=metrics, code=code(self.own))

    def model(self, params: TrainingParams, signature: Signature) -> Model:
        """The whole model: what the task's own code gives, or its network between what is usual for its kind."""
        net = self.own.model(params, signature)
        if isinstance(net, Model):
            return net
        if not isinstance(net, nn.Module):
            refuse(self.own, f"its model is {shown(net)}; allowed is a torch.nn.Module")
        whole = nn.Sequential(net)  # so that a network which is itself one nn.Dropout could be replaced too
        stateless_dropout(whole)
        net = whole[0].float()
        before = Standardise(signature.input_shape) if self.own.standardise else nn.Identity()
        return Model(signature, before=before, net=net, after=after(self.own, net, signature))


def code(own: OwnTask) -> str:
    """sha256 of the file that holds its class."""
    return hashlib.sha256(Path(inspect.getfile(type(own))).read_bytes()).hexdigest()


def after(own: OwnTask, net: nn.Module, signature: Signature) -> nn.Module:
    """What takes the network's outputs to predictions, by the shape they have.

    Raises:
        InputError: they have none that fits what is predicted.
    """
    rows = torch.zeros(ROWS, *signature.input_shape)
    with torch.no_grad():
        outputs = net.eval()(rows)
    net.train()
    classes = len(signature.classes)
    allowed = [(ROWS, classes or 1)] + ([(ROWS, 1)] if classes == 2 else [])
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) not in allowed:
        what = f"logits of {classes} classes" if classes else "values"
        expected = " or ".join(map(str, allowed))
        refuse(own, f"for {ROWS} rows its network gives {shown(outputs)}; {what} have shape {expected}")
    if not classes:
        return Unstandardise((1,))
    return logits.after(outputs.shape[1])


def made_of_parts(own: OwnTask, params: TrainingParams, seed: int) -> Problem:
    """The problem of a task that gives data and network, and leaves the rest as usual."""
    parts = parts_of(own, params, seed)
    signature = parts.signature
    model = OwnCode(own).model(params, signature)
    if isinstance(model.before, Standardise):
        model.before.fit(parts.train.rows)
    if isinstance(model.after, Unstandardise):
        model.after.fit(parts.train.labels[:, None])
    train, val, test = (split(model, part) for part in (parts.train, parts.val, parts.test))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return own.loss(params, outputs, targets)

    problem = Problem(
        model=model,
        loss=loss,
        train=train,
        val=val,
        test=test,
        fingerprint=parts.fingerprint,
        raw=parts.rows.__getitem__,
    )
    try_out(own, params, problem)
    return problem


def split(model: Model, part: Rows) -> Split:
    """Standardised rows, and targets as the network's outputs ask for them."""
    truth = part.labels if model.classes else part.labels[:, None]
    if isinstance(model.after, Unstandardise):
        targets = model.after.standardise(truth)
    else:
        targets = logits.targets(truth, model.after)
    return Split(inputs=model.before(part.rows), targets=targets, truth=truth, rows=part.numbers)


def usual_loss(kind: str, params: TrainingParams, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of its kind: cross-entropy, or what RegressionParams say, else the squared error."""
    if kind == "classification":
        return logits.loss(targets)(outputs, targets)
    return losses.regression(getattr(params, "loss", "mse"), getattr(params, "huber_delta", 1.0))(outputs, targets)


def all_metrics(own: OwnTask) -> Mapping[str, Metric]:
    """Those of its kind, and its own."""
    usual = {name: METRICS[name] for name in KINDS.get(own.kind, ())}
    return usual | {name: measured(own, name) for name in own.metrics}


def measured(own: OwnTask, name: str) -> Metric:
    """A metric of the user's own, whose answer is made a 0-dim tensor.

    Raises:
        InputError: when it is called, and the answer is no number.
    """
    function = own.metrics[name][1]

    def metric(predictions: Tensor, truth: Tensor) -> Tensor:
        value = function(predictions, truth)
        exact = torch.float32 if predictions.device.type == "mps" else torch.float64
        try:
            return torch.as_tensor(value, dtype=exact, device=predictions.device).reshape(())
        except (TypeError, ValueError, RuntimeError):
            refuse(own, f"its metric {name!r} is {shown(value)}; it must be one number")

    return metric
