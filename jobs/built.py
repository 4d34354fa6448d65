"""A task's data and network for one seed, made once for all jobs that share them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from jobs import tasks, untrained
from jobs.catalogue import Task, find
from jobs.layers import Dropout, dropouts
from jobs.layout import Layout
from jobs.metrics import METRICS, Metric
from jobs.params import Params, TrainingParams
from jobs.problem import Problem, Writing
from jobs.randomness import Purpose, drawn_from
from jobs.spec import JobSpec, Json
from jobs.stacked import Stacked, Unknown

BACKEND = "inductor"  # of torch.compile

# Parameters that no task of ours looks at when it makes its data and network; whoever writes a task of his own may.
OF_THE_LOOP = frozenset({"lr", "momentum", "weight_decay", "clip_norm", "scheduler", "warmup_epochs"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A problem on a device, and its network before the first step."""

    task: Task
    problem: Problem
    device: torch.device
    layout: Layout
    stacked: Stacked | None  # the network for many rows, where all its layers are known
    weights: Tensor  # (N,) at the start
    buffers: dict[str, Tensor]  # at the start
    dropouts: dict[str, Dropout]  # by the names of their buffers, up to the last dot
    batches: list[int]  # sizes of an epoch's batches
    metrics: tuple[str, ...]  # besides loss
    measures: Mapping[str, Metric]  # those that ask for predictions

    @property
    def net(self) -> nn.Module:
        """The network; whose weights it has is for the pack to say."""
        return self.problem.model.net

    @cached_property
    def compiled(self) -> Callable[[Tensor], Tensor]:
        """The network, compiled when it is first called."""
        made: Callable[[Tensor], Tensor] = torch.compile(self.net, backend=BACKEND)
        return made

    @cached_property
    def convolves(self) -> bool:
        """Whether pictures go through it, which it takes faster with their channels last."""
        return any(isinstance(layer, nn.Conv2d) for layer in self.net.modules())

    @cached_property
    def shape(self) -> str:
        """What networks and data must share to be trained together."""
        parts = [len(getattr(self.problem, part)) for part in ("train", "val", "test")]
        inputs = [list(self.problem.train.inputs.shape[1:]), list(self.problem.train.targets.shape[1:])]
        rest = untrained.digest(self.net) if self.stacked is None else ""  # of known layers, repr says all
        return json.dumps([parts, inputs, self.layout.facts, repr(self.net), rest, self.metrics, str(self.device)])

    @cached_property
    def widths(self) -> int:
        """Numbers that a sample becomes on its way through the layers, roughly: their last sizes."""
        return sum(place.shape[-1] for place in self.layout.places)

    @cached_property
    def outputs(self) -> int:
        """Numbers of an epoch that its metrics are computed of, roughly: as the last layer gives them."""
        width = self.layout.places[-1].shape[-1] if self.measures and self.layout.places else 0
        return len(self.problem.train) * width

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return self.layout.used


def load(spec: JobSpec, device: torch.device) -> tuple[Built | Writing, Params]:
    """What a job trains, and its parameters as an object.

    Raises:
        InputError: the user's data or code cannot be used.
        UnknownTask: there is no such task here.
    """
    module, params = tasks.load(spec.task, spec.params)
    task = find(spec.task)
    key = _key(task, spec, device)
    found = _alive.get(key)
    if found is not None and found.task.own is task.own:  # a user's own code may have been loaded again
        return found, params
    with drawn_from(spec.seed, Purpose.INIT):
        made = module.build(params, spec.seed)
    if isinstance(made, Writing):
        return made, params
    assert isinstance(params, TrainingParams)  # of every task that trains
    _alive[key] = built = build(task, made, params, device)
    return built, params


def build(task: Task, problem: Problem, params: TrainingParams, device: torch.device) -> Built:
    problem = problem.to(device)
    net = problem.model.net
    stacked = stack(net)
    layout = Layout(net, {}, ()) if stacked is None else stacked.layout
    metrics = tuple(task.metrics if problem.metrics is None else problem.metrics)
    measures = METRICS if problem.metrics is None else problem.metrics
    drops = {id(layer) for layer in dropouts(net)}
    return Built(
        task=task,
        problem=problem,
        device=device,
        layout=layout,
        stacked=stacked,
        weights=layout.row(net),
        buffers={name: tensor.clone() for name, tensor in net.named_buffers()},
        dropouts={name: layer for name, layer in net.named_modules() if id(layer) in drops},
        batches=batch_sizes(len(problem.train), params.batch_size),
        metrics=metrics,
        measures={name: measures[name] for name in metrics if name in measures},
    )


def stack(net: nn.Module) -> Stacked | None:
    try:
        return Stacked(net)
    except Unknown:
        return None


def _key(task: Task, spec: JobSpec, device: torch.device) -> str:
    ignored: frozenset[str] = frozenset() if task.own else OF_THE_LOOP
    params: Json = {name: value for name, value in spec.params.items() if name not in ignored}
    return json.dumps([spec.task, params, spec.seed, str(device)], sort_keys=True)


_alive: WeakValueDictionary[str, Built] = WeakValueDictionary()  # while a job of theirs trains


def batch_sizes(rows: int, batch_size: int) -> list[int]:
    """Sizes of an epoch's batches. A last one of a single row joins the one before it: batch norm needs two."""
    sizes = [batch_size] * (rows // batch_size)
    left = rows % batch_size
    if left == 1 and sizes:
        sizes[-1] += 1
    elif left:
        sizes.append(left)
    return sizes
