"""How many jobs of a shape are trained together, and in which mode: what was fastest when it was tried."""

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch

from jobs import cgroup, remembered
from jobs.forward import FORWARDS, Mode
from jobs.memory import out_of_memory
from jobs.pack import Pack
from jobs.progress import Part
from jobs.remembered import Found
from jobs.row import Row, State

logger = logging.getLogger(__name__)

SIZES = (1, 8, 32, 128, 512)
STEPS = 4  # that are timed
GAIN = 0.95  # a larger pack must take this part of a smaller one's time for each job, or less
SLOW_SECONDS = 0.1  # a step that takes so long is one of arithmetic, and gains nothing
MEMORY = 1 / 4  # of what is free, that a pack may take
OUTPUTS = 3  # times an epoch's outputs: kept, joined, and as predictions
CHECKED = 3  # rows of the self-check
TOLERANCE = 1e-4  # relative, between two ways of the same step


@dataclass(frozen=True)
class Choice:
    """How jobs of a shape are trained."""

    mode: Mode
    size: int  # at most so many in a pack


class Sizes:
    """What was found out for each shape, by this process or an earlier one."""

    def __init__(self) -> None:
        self._modes: dict[str, list[Mode]] = {}  # those that agree with the network itself
        self._measured: dict[str, Choice] = {}
        self._limits: dict[str, int] = {}  # of memory, which hold also where the sweep says how many

    def of(self, row: Row, others: int) -> Choice:
        """
        Args:
            others: jobs that could train with this one; if there are none, nothing is measured.
        """
        most = row.assignment.most
        if row.built.stacked is None and (most == 1 or not others):  # not even the check, which takes memory
            return Choice(Mode.ALONE, 1)
        modes = self.modes(row)
        if most > 1:
            return Choice(modes[0], min(most, self._limits.get(row.shape, most)) if FORWARDS[modes[0]].together else 1)
        if most == 1 or not others:
            return single(modes)
        if row.shape not in self._measured:
            self._measured[row.shape] = tried(row, modes)
        return self._measured[row.shape]

    def limit(self, row: Row, size: int) -> None:
        """Packs of this shape found no room in memory; those of this size may."""
        choice = Choice(self.modes(row)[0], max(size, 1))
        self._measured[row.shape], self._limits[row.shape] = choice, choice.size

    def modes(self, row: Row) -> list[Mode]:
        """The modes in which this shape can be trained, the best for many rows first."""
        if row.shape not in self._modes:
            mode = Mode.MAPPED if row.built.stacked is None else Mode.STACKED
            works = fits(row, CHECKED) and agrees(row, mode)
            self._modes[row.shape] = [mode, Mode.ALONE] if works else [Mode.ALONE]
        return self._modes[row.shape]


def single(modes: list[Mode]) -> Choice:
    """A job by itself; one of known layers takes the same way as in a pack."""
    return Choice(Mode.STACKED if Mode.STACKED in modes else Mode.ALONE, 1)


def tried(row: Row, modes: list[Mode]) -> Choice:
    """As `known`; where trying raises, the job is to train, and to fail, by itself."""
    try:
        return known(row, modes)
    except Exception as raised:  # whatever a task's own metric or loss raises
        logger.warning("job %d is trained by itself: measuring raised %s", row.spec.job, type(raised).__name__)
        return single(modes)


def known(row: Row, modes: list[Mode]) -> Choice:
    """What was measured on this machine before, if there is room for it now; else what is measured."""
    key = remembered.key(row.shape, row.built.device)
    found = remembered.recall(key)
    if found is not None and found.mode in modes and (found.size == 1 or fits(row, found.size)):
        return Choice(found.mode, found.size)
    choice = measure(row, modes)
    remembered.keep(Found(of=key, mode=choice.mode, size=choice.size))
    return choice


def agrees(row: Row, mode: Mode) -> bool:
    """Whether rows learn together what they learn alone: torch.func maps some layers wrongly, and says nothing.

    Compared in float32, since half its precision would hide that; in their own it must work at all.
    """
    exact = Row(row.assignment, row.params.model_copy(update={"precision": "float32"}), row.built)
    try:
        found, alone = gradients(exact, mode), gradients(exact, Mode.ALONE)
        if row.params.precision != "float32":
            gradients(row, mode)
    except Exception:  # whatever a layer raises that cannot be mapped
        return False
    scale = alone.abs().amax(1, keepdim=True)
    return bool(((found - alone).abs() <= TOLERANCE * scale).all())


def gradients(row: Row, mode: Mode) -> torch.Tensor:
    """Of one step of copies of the row with weights that differ: (CHECKED, N)."""
    pack = Pack([copied(row, 1 + 0.1 * number) for number in range(CHECKED)], mode, CHECKED)
    found = torch.zeros_like(pack.gradients)

    def keep(number: int) -> None:
        found.copy_(pack.gradients)

    for here, group in pack.groups:
        buffers = {name: held[here] for name, held in pack.buffers.items()}
        group.train(pack.weights[here], pack.gradients[here], buffers, keep, 1, Part())
    return found


def copied(row: Row, factor: float = 1.0) -> Row:
    """A fresh job beside this one, whose weights are so many times as large."""
    copy = Row(row.assignment, row.params, row.built)
    copy.state = State(weights=row.built.weights * factor, buffers=row.built.buffers)
    return copy


def measure(row: Row, modes: list[Mode]) -> Choice:
    """Try packs of growing size while each job of them takes less time; the smallest of those as fast as any."""
    best = single(modes)
    if not FORWARDS[modes[0]].together:
        return best
    fastest = seconds(row, best)
    if fastest > SLOW_SECONDS * len(row.built.batches):
        return best
    for size in takewhile(lambda size: fits(row, size), SIZES[1:]):
        try:
            taken = seconds(row, Choice(modes[0], size))
        except (RuntimeError, MemoryError) as raised:
            if not out_of_memory(raised):
                raise
            break
        if taken > GAIN * fastest:
            break
        best, fastest = Choice(modes[0], size), taken
    return best


def seconds(row: Row, choice: Choice) -> float:
    """What an epoch takes for each job, evaluation included; the fastest of three tries."""
    pack = Pack([copied(row) for _ in range(choice.size)], choice.mode, choice.size)
    every = len(row.built.batches)
    steps = min(STEPS, every)
    rates = np.full((choice.size, steps), row.params.lr)
    clock = clock_of(row)
    found = []
    for _ in range(3):
        started = clock()
        pack.train(rates)
        trained = clock()
        pack.evaluate("val")
        found.append((trained - started) / steps * every + clock() - trained)
    return min(found) / choice.size


def clock_of(row: Row) -> Callable[[], float]:
    """Of this thread's work where it alone computes, so that other work on the machine does not count."""
    if row.built.device.type == "cpu" and torch.get_num_threads() == 1:
        return time.thread_time
    return lambda: _synchronised(row.built.device)


def _synchronised(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def fits(row: Row, size: int) -> bool:
    """Whether so many rows should find room in memory: weights, the optimizer, batches, and an epoch's outputs."""
    built = row.built
    batch = max(max(built.batches), 512)
    inputs = math.prod(built.problem.train.inputs.shape[1:])
    numbers = 8 * built.layout.size + batch * (inputs + 6 * built.widths) + OUTPUTS * built.outputs
    return 4 * numbers * size < MEMORY * free_bytes(built.device)


def free_bytes(device: torch.device) -> int:
    """Of the device; of the machine, what the container that we may be in leaves us."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    allowed = cgroup.free_bytes()
    return _free_here() if allowed is None else min(_free_here(), allowed)


def _free_here() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux: without what its cache would give back
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
