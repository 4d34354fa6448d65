"""Training one job: the engine, a plain loop over tensors, and a DataLoader with per-sample transforms.

    GRIDYARD_DATA=FOLDER .venv/bin/python -m benchmarks.engine

CPU time of an epoch on one thread: the minimum of several repeats, in which all contenders take turns. A whole epoch is
training and validation, loss and accuracy of both; the engine also keeps the best weights. The plain loop has the
same layers, with torch's own dropout, Adam, and inputs that lie ready as floats. The study notes' way is a DataLoader
whose dataset makes a picture of each sample, then ToTensor and Normalize. MNIST is cut to 10,000 rows.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import plain
from benchmarks.plain import Part
from benchmarks.result import Result, parser, publish
from gridyard import bars
from jobs import data, tasks
from jobs.catalogue import find
from jobs.problem import Problem, Split
from jobs.row import Row
from jobs.spec import Assignment, Json, JobSpec
from jobs.tasks import mnist

NAME = "engine"
REPEATS = 7
ROWS = 10_000  # of MNIST's training part; a fifth as many validate
MEAN, STD = (0.1307,), (0.3081,)  # of MNIST's pixels, as the study notes have them

# (case, task, parameters, the most times the plain loop's CPU time that it may take, epochs of one repeat)
CASES: tuple[tuple[str, str, Json, float, int], ...] = (
    ("iris", "iris", {}, 1.1, 20),
    ("mnist MLP [500], batch 64", "mnist", {"hidden": [500]}, 1.0, 1),
    ("mnist CNN [16, 32], batch 64", "mnist", {"model": "cnn", "hidden": [128]}, 1.0, 1),
)

Contender = Callable[[], object]  # trains one epoch


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=ROWS, help="of MNIST that are trained on")
    made.add_argument("--repeats", type=int, default=REPEATS)
    given = made.parse_args()
    publish(run(given.rows, given.repeats), given)


def run(rows: int = ROWS, repeats: int = REPEATS, cases: Sequence[Any] = CASES) -> Iterator[Result]:
    torch.set_num_threads(1)
    for case, task, params, most, epochs in cases:
        row = row_of(task, params, rows)
        known = ready(row.problem, row.problem.train)
        steps, ours, whole = contenders(row, known)
        found = [steps, row.train_next, whole, row.advance]
        yield from ()
