"""How much faster jobs train together: time per job and step in packs of growing size, against a plain loop.

    GRIDYARD_DATA=FOLDER .venv/bin/python -m benchmarks.packs [TASK …]

CPU time on one core: drawing the order, gathering the batch, forward, backward, Adam, the metrics of the training. The
plain loop has the same layers, with torch's own dropout, and inputs that lie ready as floats. Rows differ in learning
rate and seed. The last line of a task is the pack that the trainer would choose.
"""

import itertools
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import psutil
import torch
from torch import optim

from benchmarks import plain, single
from benchmarks.result import Result, parser, publish
from gridyard import bars
from jobs.forward import Mode
from jobs.pack import Pack
from jobs.row import Row
from jobs.sizing import Sizes
from jobs.spec import Json

NAME = "packs"
SIZES = (1, 8, 32, 128, 512)
REPEATS = 3
SECONDS = 1.5  # that one repeat may take, unless two steps take longer
MEMORY = 0.5  # of what is free, that a pack may take
TO_REACH = {("iris", 128): 20.0}  # times as fast as the plain loop

CPU = torch.device("cpu")


class Case(NamedTuple):
    """A network to train."""

    task: str
    params: Json

    @property
    def cut(self) -> int | None:
        """Rows of the training part; None: all."""
        return 10_000 if self.task == "mnist" else None


CASES = {
    "iris": Case("iris", {}),
    "breast_cancer": Case("breast_cancer", {}),
    "california_housing": Case("california_housing", {"scheduler": None}),
    "mnist MLP [500]": Case("mnist", {"hidden": [500]}),
    "mnist CNN [16, 32] [128]": Case("mnist", {"model": "cnn", "hidden": [128]}),
}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(CASES)}; default: all")
    made.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="jobs trained together")
    given = made.parse_args()
    publish(run(given.tasks or list(CASES), given.sizes), given)


def run(names: Sequence[str] = tuple(CASES), sizes: Sequence[int] = SIZES) -> Iterator[Result]:
    torch.set_num_threads(1)
    for name in names:
        yield from of_case(name, CASES[name], sizes)


def of_case(name: str, case: Case, sizes: Sequence[int]) -> Iterator[Result]:
    (first,) = single.rows_of(case.task, case.params, 1, CPU, case.cut)
    choices = Sizes()
    modes = choices.modes(first)
    baseline = measured(f"{name}, plain loop", plain_steps(first), len(first.built.batches))
    needed = 0.0  # bytes of memory for each job, as the pack before showed
    found: dict[int, float] = {}
    for size in sizes:
        if needed * size > MEMORY * psutil.virtual_memory().available:
            print(f"{name}: no pack of {size}, which would take {needed * size / 1e9:.0f} GB", file=sys.stderr)
            break
        before = peak_bytes()
        mode = modes[0] if size > 1 or modes[0] is Mode.STACKED else Mode.ALONE
        found[size] = of_pack(name, case, size, mode)
        needed = max(needed, (peak_bytes() - before) / size)
        yield result(name, size, mode, found[size], baseline)
    chosen = choices.of(first, others=max(sizes))
    if chosen.size not in found:
        found[chosen.size] = of_pack(name, case, chosen.size, chosen.mode)
    made = result(f"{name}, as the trainer chooses", chosen.size, chosen.mode, found[chosen.size], baseline)
    never_slower = None if 1 not in found else found[chosen.size] <= found[1]
    yield replace(made, bound="not slower than one alone", met=never_slower)


def result(name: str, size: int, mode: Mode, taken: float, baseline: float) -> Result:
    bound = TO_REACH.get((name, size))
    return Result(
        benchmark=NAME,
        case=f"{name}, {size} together",
        value=taken * 1e3,
        unit="ms",
        baseline=baseline * 1e3,
        ratio=baseline / taken,
        bound="" if bound is None else f"≥ {bound:g} ×",
        met=None if bound is None else baseline >= bound * taken,
        note=mode.value,
    )


def of_pack(name: str, case: Case, size: int, mode: Mode) -> float:
    """Seconds of a step for each job of a pack."""
    pack = Pack(single.rows_of(case.task, case.params, size, CPU, case.cut), mode, size)

    def train(steps: int) -> None:
        pack.train(single.rates_of(pack, steps))

    return measured(f"{name}, {size} together", train, len(pack.rows[0].built.batches)) / size


def plain_steps(row: Row) -> Callable[[int], None]:
    """So many steps of the plain loop."""
    problem, params = row.problem, row.params
    net, known = plain.network(problem.model.net), single.ready(problem, problem.train)
    optimizer = optim.Adam(net.parameters(), params.lr)

    def train(steps: int) -> None:
        plain.learn(net, optimizer, problem.loss, itertools.islice(plain.batches(known, params.batch_size), steps))

    return train


def measured(what: str, train: Callable[[int], None], most: int) -> float:
    """CPU seconds of a step: the least of some repeats of as many steps as fit in SECONDS, `most` being an epoch.

    Of short epochs there are several in a repeat.
    """
    train(min(2, most))  # warms up
    each = cpu_seconds(lambda: train(min(2, most))) / min(2, most)
    steps = max(2, min(most, int(SECONDS / each)))
    epochs = max(1, int(SECONDS / (each * steps)))
    taken = []
    with bars.steps(what, REPEATS) as advance:
        for _ in range(REPEATS):
            taken.append(cpu_seconds(lambda: [train(steps) for _ in range(epochs)]) / (steps * epochs))
            advance("")
    return min(taken)


def cpu_seconds(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def peak_bytes() -> int:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
