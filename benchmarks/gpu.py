"""Packs on a GPU, with nothing but torch, scikit-learn and numpy: copy benchmarks/ and jobs/ to such a machine.

    python -m benchmarks.gpu [--device cuda] [--docs]

What docs/performance.md has of a CPU in its sections 1, 2 and 5: the Iris grid as one pack, against a plain loop and
against one process for each job; packs of growing size; one job against a plain loop and a DataLoader. Wall time,
waiting for the device at both ends. Networks go as in `jobs.stacked`, or by torch.func.vmap where it does not know a
layer. Pictures and houses are random numbers of the right shape: time does not depend on what they show.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.synchronize import Barrier
from statistics import mean
from subprocess import DEVNULL, PIPE, Popen
from typing import NamedTuple

import torch
from sklearn.datasets import load_breast_cancer, load_iris
from torch import Tensor, multiprocessing, nn, optim
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks.result import Result, parser, publish
from jobs.layers import Dropout, mlp
from jobs.layout import Layout
from jobs.stacked import Stacked, Unknown

NAME = "gpu"
SIZES = (1, 8, 32, 128, 512, 2048)
EPOCHS = 30  # of the Iris grid
GRID, SAMPLE = 512, 16  # jobs of the Iris grid, and of it for each of its baselines
PROCESSES = 8  # that train at a time, each one job after the other
SECONDS, REPEATS = 2.0, 3  # of one measurement, and of how many the least is taken
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8

Loss = Callable[[Tensor, Tensor], Tensor]  # (B, …), (B, …) -> (B, …)


class Data(NamedTuple):
    """Rows that lie ready on the device."""

    inputs: Tensor  # (N, …) float32
    targets: Tensor  # (N,) classes, or (N, 1) values


class Case(NamedTuple):
    """A network, what it learns, and how."""

    network: Callable[[], nn.Module]
    data: Callable[[], Data]
    batch: int
    loss: Loss


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs, targets, reduction="none").mean(1)


def bundled(load: Callable[..., tuple[object, object]]) -> Data:
    inputs, targets = (torch.tensor(part) for part in load(return_X_y=True))
    return Data(((inputs - inputs.mean(0)) / inputs.std(0)).float(), targets.long())


def houses() -> Data:
    return Data(torch.randn(16_512, 8), torch.randn(16_512, 1))


def pictures() -> Data:
    return Data(torch.rand(10_000, 1, 28, 28) * 2 - 1, torch.randint(10, (10_000,)))


def convolutions() -> nn.Module:
    halves = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    quarters = [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*halves, *quarters, nn.Flatten(), *mlp(32 * 7 * 7, [128], 10))


CASES = {
    "iris": Case(lambda: mlp(4, [16, 8], 3, dropout=0.2), lambda: bundled(load_iris), 16, cross_entropy),
    "breast_cancer": Case(lambda: mlp(30, [64, 32], 2), lambda: bundled(load_breast_cancer), 32, cross_entropy),
    "california_housing": Case(lambda: mlp(8, [128, 64, 32], 1), houses, 128, squares),
    "mnist MLP [500]": Case(lambda: nn.Sequential(nn.Flatten(), *mlp(784, [500], 10)), pictures, 64, cross_entropy),
    "mnist CNN [16, 32] [128]": Case(convolutions, pictures, 64, cross_entropy),
}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="jobs trained together")
    made.add_argument("--grid", type=int, default=GRID, help="jobs of the Iris grid")
    made.add_argument("--sample", type=int, default=SAMPLE, help="jobs of it that each baseline trains")
    made.add_argument("--processes", type=int, default=PROCESSES, help="at a time, where each trains one job")
    given = made.parse_args()
    publish(run(given.device, given.sizes, given.grid, given.sample, given.processes), given)


def run(device: str, sizes: Sequence[int], grid: int, sample: int, processes: int) -> Iterator[Result]:
    place = torch.device(device)
    torch.set_num_threads(1)
    yield from iris_grid(place, grid, sample, processes)
    for name, case in CASES.items():
        yield from packs(name, case, place, sizes)
    for name in ("iris", "mnist MLP [500]", "mnist CNN [16, 32] [128]"):
        yield from one_job(name, CASES[name], place)


# The pack: what jobs.pack does, without what needs pydantic.


class Pack:
    """Rows of a matrix of weights (K, N), which learn from one order of the data for each row."""

    def __init__(self, case: Case, count: int, device: torch.device) -> None:
        self.case, self.device = case, device
        self.data = Data(*(part.to(device) for part in case.data()))
        self.net = case.network().to(device)
        self.stacked = stacked(self.net)
        self.layout = Layout(self.net, {}, ()) if self.stacked is None else self.stacked.layout
        self.weights = self.layout.row(self.net).repeat(count, 1)
        self.best, self.best_loss = self.weights.clone(), torch.full((count,), float("inf"), device=device)
        self.gradients, self.mean, self.square = (torch.zeros_like(self.weights) for _ in range(3))
        self.rest = self.weights.new_zeros(count, self.layout.size - self.layout.used)
        self.rates = torch.logspace(-3, -1.5, count, device=device)[:, None]
        self.buffers = {name: value.expand(count, *value.shape).clone() for name, value in self.net.named_buffers()}
        self.steps = 0

    def epoch(self, steps: int | None = None) -> None:
        """All rows of the data in new orders, or so many steps of it."""
        count, rows = len(self.weights), len(self.data.inputs)
        orders = torch.stack([torch.randperm(rows) for _ in range(min(count, 8))]).repeat(count // 8 + 1, 1)[:count]
        views = self.layout.views(self.weights)
        leaves = {name: view.detach().requires_grad_() for name, view in views.items()}
        batches = orders.to(self.device).split(self.case.batch, 1)
        keys = torch.randint(2**63 - 1, (len(batches), count), device=self.device)
        for number, chosen in enumerate(islice(batches, steps)):
            if self.stacked is not None:
                self.stacked.keys, self.stacked.number = keys, number
            self._step(leaves, chosen)

    def _step(self, leaves: dict[str, Tensor], chosen: Tensor) -> None:
        losses = self._losses(leaves, self.data.inputs[chosen], self.data.targets[chosen], training=True)
        found = torch.autograd.grad(losses.mean(1).sum(), list(leaves.values()))
        torch.cat([*(part.flatten(1) for part in found), self.rest], 1, out=self.gradients)
        self.steps += 1
        self._adam()

    def _adam(self) -> None:
        self.mean.lerp_(self.gradients, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(self.gradients, self.gradients, value=1 - BETA2)
        root = self.square.sqrt().div_((1 - BETA2**self.steps) ** 0.5).add_(EPS)
        self.weights.addcdiv_(self.mean * (-self.rates / (1 - BETA1**self.steps)), root)

    def _losses(self, leaves: dict[str, Tensor], inputs: Tensor, targets: Tensor, training: bool) -> Tensor:
        """(K, B) of inputs (K, B, …)."""
        if self.stacked is not None:
            outputs = self.stacked(leaves, self.buffers, inputs, training)
        else:
            net = self.net.train(training)
            outputs = vmap(lambda weights, x: functional_call(net, weights, (x,)))(leaves, inputs)
        return self.case.loss(outputs.flatten(0, 1), targets.flatten(0, 1)).view(len(inputs), -1)

    @torch.no_grad()
    def evaluate(self) -> None:
        """The loss of each row, over all of the data; the weights of those that are better than before are kept."""
        inputs, targets = (part.expand(len(self.weights), *part.shape) for part in self.data)
        loss = self._losses(self.layout.views(self.weights), inputs, targets, training=False).mean(1)
        better = loss < self.best_loss
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best = torch.where(better[:, None], self.weights, self.best)


def stacked(net: nn.Module) -> Stacked | None:
    try:
        return Stacked(net)
    except Unknown:
        return None


# The baselines.


class Plain:
    """One job, as one would write it."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case, self.data = case, Data(*(part.to(device) for part in case.data()))
        self.net = case.network().to(device)
        for parent in list(self.net.modules()):
            for name, child in parent.named_children():
                if isinstance(child, Dropout):
                    setattr(parent, name, nn.Dropout(float(child.p)) if child.p > 0 else nn.Identity())
        self.optimizer = optim.Adam(self.net.parameters(), LR)
        self.best, self.best_loss = self.net.state_dict(), float("inf")

    def epoch(self, steps: int | None = None) -> None:
        orders = torch.randperm(len(self.data.inputs)).to(self.data.inputs.device).split(self.case.batch)
        self.learn((self.data.inputs[rows], self.data.targets[rows]) for rows in islice(orders, steps))

    def learn(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self.net.train()
        for inputs, targets in batches:
            self.optimizer.zero_grad()
            self.case.loss(self.net(inputs), targets).mean().backward()
            self.optimizer.step()

    @torch.no_grad()
    def evaluate(self) -> None:
        self.net.eval()
        loss = self.case.loss(self.net(self.data.inputs), self.data.targets).mean().item()
        if loss < self.best_loss:
            self.best_loss = loss
            self.best = {name: value.clone() for name, value in self.net.state_dict().items()}


class Samples(Dataset[tuple[Tensor, int]]):
    """Pictures that are made tensors and normalised one by one, as the study notes do by ToTensor and Normalize."""

    def __init__(self, data: Data) -> None:
        self.pixels, self.labels = ((data.inputs[:, 0] + 1) * 127.5).byte().numpy(), data.targets.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return (torch.from_numpy(self.pixels[place])[None].float().div(255) - 0.1307) / 0.3081, self.labels[place]


# The measurements.


def iris_grid(device: torch.device, grid: int, sample: int, processes: int) -> Iterator[Result]:
    """Thirty epochs of every job, evaluated after each, best weights kept."""
    case = CASES["iris"]
    for warming in (Pack(case, 2, device), Plain(case, device)):
        with_epochs(warming, 1)
    with busy(device) as shares:
        pack = seconds(device, lambda: with_epochs(Pack(case, grid, device), EPOCHS))
    packed = grid / pack
    packed_share = told(shares)
    plain = sample / seconds(device, lambda: [with_epochs(Plain(case, device), EPOCHS) for _ in range(sample)])
    yield figure(f"Iris grid, {grid} jobs in one pack", packed, plain, f"plain loop; {packed_share}", "jobs/s")
    with busy(device) as shares:
        taken, done = by_processes(str(device), sample, processes)
    note = f"{processes} processes at a time, each job after the other, loaded; {told(shares)}"
    yield figure(f"Iris grid, {grid} jobs in one pack", packed, done / taken, note, "jobs/s")


def with_epochs(jobs: Pack | Plain, epochs: int) -> None:
    for _ in range(epochs):
        jobs.epoch()
        jobs.evaluate()


def by_processes(device: str, sample: int, count: int) -> tuple[float, int]:
    """Seconds that the processes take for the jobs, once they are loaded, and how many these were."""
    context = multiprocessing.get_context("spawn")
    loaded, each = context.Barrier(count + 1), max(1, sample // count)
    processes = [context.Process(target=of_process, args=(device, each, loaded)) for _ in range(count)]
    for process in processes:
        process.start()
    loaded.wait()
    started = time.perf_counter()
    loaded.wait()  # all have ended
    taken = time.perf_counter() - started
    for process in processes:
        process.join()
    return taken, each * count


def of_process(device: str, jobs: int, loaded: Barrier) -> None:
    torch.set_num_threads(1)
    with_epochs(Plain(CASES["iris"], torch.device(device)), 1)
    loaded.wait()
    for _ in range(jobs):
        with_epochs(Plain(CASES["iris"], torch.device(device)), EPOCHS)
    loaded.wait()


def packs(name: str, case: Case, device: torch.device, sizes: Sequence[int]) -> Iterator[Result]:
    """Time of a step for each job."""
    plain = of_step(device, Plain(case, device).epoch)
    for size in sizes:
        try:
            with busy(device) as shares:
                taken = of_step(device, Pack(case, size, device).epoch) / size
        except torch.OutOfMemoryError:
            return
        yield figure(f"{name}, {size} together", taken * 1e3, plain * 1e3, told(shares))


def one_job(name: str, case: Case, device: torch.device) -> Iterator[Result]:
    """A whole epoch of one job."""
    pack, plain = Pack(case, 1, device), Plain(case, device)
    ours = least(device, lambda: with_epochs(pack, 1))
    by_hand = least(device, lambda: with_epochs(plain, 1))
    yield figure(f"{name}, one job, an epoch", ours * 1e3, by_hand * 1e3, "plain loop")
    if name.startswith("mnist"):
        loader = DataLoader(Samples(case.data()), case.batch, shuffle=True)
        notes = least(device, lambda: plain.learn((x.to(device), y.to(device)) for x, y in loader))
        yield figure(f"{name}, one job, an epoch", ours * 1e3, notes * 1e3, "DataLoader, each sample by itself")


def figure(case: str, value: float, baseline: float, note: str, unit: str = "ms") -> Result:
    ratio = value / baseline if unit == "jobs/s" else baseline / value
    return Result(benchmark=NAME, case=case, value=value, unit=unit, baseline=baseline, ratio=ratio, note=note)


def of_step(device: torch.device, train: Callable[[int], None]) -> float:
    """Seconds of a step: of as many as fit in SECONDS."""
    train(2)
    each = seconds(device, lambda: train(2)) / 2
    rounds = max(1, int(SECONDS / (each * 4) / REPEATS))
    return least(device, lambda: [train(4) for _ in range(rounds)]) / (4 * rounds)


def least(device: torch.device, action: Callable[[], object]) -> float:
    action()
    return min(seconds(device, action) for _ in range(REPEATS))


def seconds(device: torch.device, action: Callable[[], object]) -> float:
    """Wall time, with all that the device still has to do."""
    wait(device)
    started = time.perf_counter()
    action()
    wait(device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def busy(device: torch.device) -> Iterator[list[float]]:
    """Percent of the time in which the GPU computed, as nvidia-smi saw it about five times a second meanwhile."""
    shares: list[float] = []
    if device.type != "cuda":
        yield shares
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    try:
        watching = Popen([*query, f"--id={device.index or 0}"], stdout=PIPE, stderr=DEVNULL, text=True)
    except OSError:  # there is none
        yield shares
        return
    try:
        yield shares
    finally:
        watching.terminate()
        lines, _ = watching.communicate()
        shares += [float(line) for line in lines.splitlines() if line.strip().isdigit()]


def told(shares: list[float]) -> str:
    return f"GPU busy {mean(shares):.0f} % of the time" if shares else "GPU's load unknown"


if __name__ == "__main__":
    main()
