"""Training one job: the engine, a plain loop over tensors, and a DataLoader with per-sample transforms.

    GRIDYARD_DATA=FOLDER .venv/bin/python -m benchmarks.engine

CPU time on one thread: the minimum of several repeats, in which all contenders take turns. A whole epoch is training
and validation, with loss and accuracy of the latter; the engine also has metrics of the training, and keeps the best
weights. The plain loop has the same layers, with torch's own dropout, Adam, and inputs that lie ready as floats. The
study notes' way is a DataLoader whose data set makes a picture of each sample, then ToTensor and Normalize. MNIST is
cut to 10,000 rows, a fifth as many validate.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, optim
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import plain, single
from benchmarks.result import Result, parser, publish
from gridyard import bars
from jobs import data
from jobs.pack import Pack
from jobs.problem import Problem
from jobs.spec import Json
from jobs.tasks import mnist

NAME = "engine"
REPEATS = 7
ROWS = 10_000  # of MNIST that are trained on
MEAN, STD = (0.1307,), (0.3081,)  # of MNIST's pixels, as the study notes have them
STUDY = 3  # times as fast as the study notes' way

Contender = Callable[[], object]  # trains one epoch


class Case(NamedTuple):
    """A network to train."""

    name: str
    task: str
    params: Json
    most: float  # CPU time it may take: so many times the plain loop's
    epochs: int  # of one repeat
    study: float | None = None  # to reach: so many times as fast as the study notes' way; None: it is only stated

    @property
    def cut(self) -> bool:
        return self.task == "mnist"


CASES = (
    Case("iris, batch 16", "iris", {}, 1.1, 20),
    Case("breast_cancer, batch 32", "breast_cancer", {}, 1.1, 20),
    Case("mnist MLP [500], batch 64", "mnist", {"hidden": [500]}, 1.0, 1, STUDY),
    Case("mnist CNN [16, 32] [128], batch 64", "mnist", {"model": "cnn", "hidden": [128]}, 1.0, 1),
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=ROWS, help="of MNIST that are trained on")
    made.add_argument("--repeats", type=int, default=REPEATS)
    given = made.parse_args()
    publish(run(given.rows, given.repeats), given)


def run(rows: int = ROWS, repeats: int = REPEATS, cases: Sequence[Case] = CASES) -> Iterator[Result]:
    torch.set_num_threads(1)
    for case in cases:
        pack = single.single(case.task, case.params, rows if case.cut else None)
        contenders = [*by_hand(pack), *by_engine(pack), *([study(pack)] if case.cut else [])]
        hand_steps, hand, steps, epoch, *others = fastest(case, contenders, repeats)
        count = len(pack.rows[0].built.batches)
        yield result(
            f"{case.name}: a step", steps / count, hand_steps / count, note="training only, against the plain loop"
        )
        yield result(f"{case.name}: a whole epoch", epoch, hand, case.most, note="against the plain loop")
        for notes in others:
            yield against_notes(case, epoch, notes)


def result(name: str, ours: float, baseline: float, most: float | None = None, note: str = "") -> Result:
    return Result(
        benchmark=NAME,
        case=name,
        value=ours,
        unit="ms",
        baseline=baseline,
        ratio=baseline / ours,
        bound="" if most is None else f"≤ {most:g} of its time",
        met=None if most is None else ours <= most * baseline,
        note=note,
    )


def against_notes(case: Case, ours: float, notes: float) -> Result:
    made = result(f"{case.name}: a whole epoch", ours, notes)
    bound = "" if case.study is None else f"≥ {case.study:g} × as fast"
    met = None if case.study is None else notes >= case.study * ours
    return replace(made, bound=bound, met=met, note="against the study notes' way")


def by_hand(pack: Pack) -> tuple[Contender, Contender]:
    """The plain loop: training only, and with validation."""
    row = pack.rows[0]
    problem, params = row.problem, row.params
    net = plain.network(problem.model.net)
    known, val = (single.ready(problem, split) for split in (problem.train, problem.val))
    epoch = plain.loop(net, known, problem.loss, lr=params.lr, batch=params.batch_size)

    def whole() -> None:
        epoch()
        plain.look(net, val, problem.loss, problem.evaluation_rows)

    return epoch, whole


def by_engine(pack: Pack) -> tuple[Contender, Contender]:
    """The same by the engine."""
    rates = single.rates_of(pack, len(pack.rows[0].built.batches))
    return lambda: pack.train(rates), pack.advance


class Notes(Dataset[tuple[Tensor, int]]):
    """MNIST as the study notes have it: each sample is made a picture, and that a tensor, whenever it is asked for."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.pixels, self.labels = pixels, labels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[place])), int(self.labels[place])


def study(pack: Pack) -> Contender:
    """An epoch with validation in the study notes' way."""
    row = pack.rows[0]
    problem, batch = row.problem, row.params.batch_size
    known, val = (loader(problem, part, batch) for part in ("train", "val"))
    net = plain.network(problem.model.net)
    optimizer = optim.Adam(net.parameters(), row.params.lr)

    def epoch() -> None:
        plain.learn(net, optimizer, problem.loss, known)
        net.eval()
        with torch.no_grad():
            for inputs, targets in val:
                outputs = net(inputs)
                problem.loss(outputs, targets).sum().item()
                (outputs.argmax(1) == targets).sum().item()

    return epoch


def loader(problem: Problem, part: str, batch: int) -> "DataLoader[tuple[Tensor, int]]":
    """Over the same pictures as the engine's; those for training in a new order each time."""
    pictures = mnist.digits(data.get("mnist"))
    chosen = getattr(problem, part).rows.numpy()
    return DataLoader(Notes(pictures.pixels[chosen, :, :, 0], pictures.labels[chosen]), batch, shuffle=part == "train")


def fastest(case: Case, contenders: Sequence[Contender], repeats: int) -> list[float]:
    """CPU milliseconds of one epoch of each, measured in turn, so that all meet the same disturbances."""
    best = [float("inf")] * len(contenders)
    with bars.steps(case.name, (repeats + 1) * len(contenders)) as advance:
        for repeat in range(repeats + 1):  # the first warms up
            for place, contender in enumerate(contenders):
                started = time.process_time()
                for _ in range(case.epochs):
                    contender()
                if repeat:
                    best[place] = min(best[place], (time.process_time() - started) / case.epochs * 1e3)
                advance("")
    return best


if __name__ == "__main__":
    main()
