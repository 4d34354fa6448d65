"""A trained model on its job's test part, which the task builds again: no job stores what only a report needs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score
from torch import Tensor
from tqdm import tqdm

from jobs import devices, scores, tasks
from jobs.errors import GridyardError, InputError
from jobs.forward import precise
from jobs.params import TrainingParams
from jobs.problem import Model, Problem
from jobs.randomness import Purpose, drawn_from, mix
from jobs.scores import Classification, Regression
from jobs.spec import JobSpec

REPEATS = 10  # shuffles of each column
MOST_ROWS = 5_000  # that are shuffled
MOST_PREDICTIONS = 10_000_000  # that all shuffles together take
SHOWN_AFTER = 1.0  # seconds before a progress bar appears


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much worse predictions become when one column is shuffled (Breiman 2001)."""

    feature: str
    drop: float  # of `Tested.judged_by`, mean over REPEATS shuffles
    std: float  # over the shuffles


@dataclass(frozen=True, kw_only=True)
class Tested:
    """What the model makes of every row of the test part."""

    predictions: NDArray[Any]  # (N, classes) logits, or (N,) values in the target's own unit
    truth: NDArray[Any]  # (N,) class numbers from 0, or values
    rows: NDArray[np.int64]  # (N,) their numbers in the raw data, from 0
    names: tuple[str, ...]  # (N,) what to call them
    classes: tuple[str, ...]  # none: regression
    scores: Classification | Regression
    pictures: dict[int, NDArray[np.uint8]]  # (H, W) or (H, W, 3) of the worst mistakes, by index; images only
    importance: tuple[Importance, ...]  # of a table's columns, the most important first
    importance_rows: int  # so many rows were shuffled
    target: str  # name of what is predicted; "" unknown
    unit: str  # of a value; "" unknown or none


def evaluate(spec: JobSpec, model: Model, *, fingerprint: str | None, device: str = "auto") -> Tested:
    """Predict the test part with a job's best model.

    Args:
        model: as `artifact.load` gives it; it is moved to the device.
        fingerprint: of the data that the job has trained on; None: not known.

    Raises:
        InputError: the data are not on this machine or have changed, there is no test part, or its predictions are
            neither logits of classes nor single values.
    """
    problem, params = rebuilt(spec)
    if fingerprint is not None and problem.fingerprint != fingerprint:
        raise InputError(
            f"the data on this machine are not those that job {spec.job} was trained on "
            f"(fingerprint {problem.fingerprint[:12]}, recorded {fingerprint[:12]})"
        )
    if not len(problem.test):
        raise InputError("its data have no test part")
    network = Network(problem, model, params, devices.choose(device))
    return tested(spec, network, network.predict(problem.test.inputs))


def rebuilt(spec: JobSpec) -> tuple[Problem, TrainingParams]:
    """The job's problem as the engine built it, by the task's own code.

    Raises:
        InputError: it cannot be built here; the message says why.
    """
    try:
        module, params = tasks.load(spec.task, spec.params)
        with drawn_from(spec.seed, Purpose.INIT):
            problem = module.build(params, spec.seed)
    except GridyardError:
        raise
    except Exception as error:  # whatever a task's code or a library raises must not take the report along
        raise InputError(f"its data could not be built again: {type(error).__name__}: {error}") from error
    if not isinstance(problem, Problem) or not isinstance(params, TrainingParams):
        raise InputError("it trains nothing, so it has no test part")
    return problem, params


class Network:
    """From a split's inputs to predictions, as the engine evaluates."""

    def __init__(self, problem: Problem, model: Model, params: TrainingParams, device: torch.device) -> None:
        self.problem, self.device, self.precision = problem, device, params.precision
        self.model, self.feed = model.to(device).eval(), problem.feed.to(device)

    @torch.inference_mode()
    def predict(self, inputs: Tensor, *, shown: str = "predicting the test part") -> Tensor:
        """(N, …) of a split -> (N, …) predictions on the CPU; with a progress bar named `shown`, if it is not ""."""
        batches = torch.split(inputs, self.problem.evaluation_rows)
        bar = tqdm(batches, desc=shown, disable=None if shown else True, delay=SHOWN_AFTER, leave=False)
        outputs = torch.cat([self.outputs(self.feed(batch.to(self.device))) for batch in bar])
        predictions: Tensor = self.model.after(outputs)
        return predictions.cpu()

    def outputs(self, inputs: Tensor) -> Tensor:
        with precise(self.device, self.precision):
            outputs: Tensor = self.model.net(inputs)
        return outputs.float()

    @torch.inference_mode()
    def picture(self, index: int) -> NDArray[np.uint8]:
        """A row of the test part as the network sees it, in pixels: (H, W), or (H, W, 3).

        `before` is an affine function of each pixel, so two pictures, all black and all white, tell how to undo it.
        """
        seen = self.feed(self.problem.test.inputs[index : index + 1].to(self.device))[0]
        black = torch.zeros(1, *self.model.signature.input_shape, device=self.device)
        low, high = self.model.before(black)[0], self.model.before(black + 255)[0]
        pixels = ((seen - low) / (high - low) * 255).round().clamp(0, 255).byte().cpu().numpy()
        return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)


def tested(spec: JobSpec, network: Network, predictions: Tensor) -> Tested:
    """All that a report says of these predictions."""
    test, signature = network.problem.test, network.model.signature
    truth, rows = test.truth.cpu().numpy(), test.rows.cpu().numpy()
    values, classes = matched(predictions.numpy(), truth, signature.classes)
    truth = truth.reshape(len(truth))
    found = scores.classification(values, truth, classes) if classes else scores.regression(values, truth)
    worst = [mistake.index for mistake in found.mistakes] if isinstance(found, Classification) else []
    about = {**network.problem.model.signature.about, **signature.about}  # an older model may tell less
    importance, shuffled = importances(spec, network, truth, found)
    return Tested(
        predictions=values,
        truth=truth,
        rows=rows,
        names=named(rows, network.problem.names),
        classes=classes,
        scores=found,
        pictures={index: network.picture(index) for index in worst} if signature.kind == "image" else {},
        importance=importance,
        importance_rows=shuffled,
        target=str(about.get("target", "")),
        unit=str(about.get("unit", "")),
    )


def matched(
    predictions: NDArray[Any], truth: NDArray[Any], classes: tuple[str, ...]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Logits (N, classes) and the names of the classes, or values (N,) and none.

    Raises:
        InputError: they are neither.
    """
    of_classes = truth.ndim == 1 and np.issubdtype(truth.dtype, np.integer) and predictions.ndim == 2
    if of_classes and predictions.shape[1] >= 2 and len(classes) in (0, predictions.shape[1]):
        return predictions, classes or tuple(map(str, range(predictions.shape[1])))
    if not classes and predictions.size == truth.size == len(truth):
        return predictions.reshape(len(truth)), ()
    raise InputError(
        f"its predictions have the shape {predictions.shape} for truths of {truth.shape}; a report describes "
        "logits (rows, classes) and values (rows, 1)"
    )


def named(rows: NDArray[np.int64], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names[row] for row in rows) if len(names) else tuple(f"row {row}" for row in rows)


def judged_by(found: Classification | Regression) -> str:
    """What shuffling a column makes worse."""
    return "accuracy" if isinstance(found, Classification) else "R²"


def importances(
    spec: JobSpec, network: Network, truth: NDArray[Any], found: Classification | Regression
) -> tuple[tuple[Importance, ...], int]:
    """Permutation importance of a table's raw columns, and the number of rows that were shuffled.

    scikit-learn's, of accuracy or R². What belongs to one raw column, such as the one-hot inputs of a category, is
    shuffled together.
    """
    signature, column_of = network.model.signature, column_of_inputs(network)
    if column_of is None or len(truth) < 2 or (isinstance(found, Regression) and found.r2 is None):
        return (), 0
    shuffles = REPEATS * len(signature.features)
    rows = min(len(truth), MOST_ROWS, max(200, MOST_PREDICTIONS // shuffles))
    shuffler = Shuffler(network, column_of, bar_of=shuffles + 1)
    seed = mix(spec.seed, Purpose.ORDER) % 2**32
    chosen = drawn_rows(len(truth), rows, seed)
    cells = np.tile(chosen[:, None], (1, len(signature.features)))
    with one_thread(), shuffler.bar:
        drops = permutation_importance(
            shuffler,
            cells,
            truth[chosen],
            scoring=shuffler.score,
            n_repeats=REPEATS,
            random_state=seed,
        )
    numbers = zip(signature.features, drops.importances_mean, drops.importances_std, strict=True)
    all_of_them = [Importance(feature=name, drop=float(mean), std=float(std)) for name, mean, std in numbers]
    return tuple(sorted(all_of_them, key=lambda one: -one.drop)), rows


def drawn_rows(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Numbers of rows, in order; not by scikit-learn's max_samples, which leaves the score before on all rows."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


@contextmanager
def one_thread() -> Iterator[None]:
    """For many small networks' passes: on a busy machine more threads were 20 times slower, as each waits for all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def column_of_inputs(network: Network) -> NDArray[np.int64] | None:
    """Of each column of the test part's inputs the raw column that it comes of; None, where that is not known."""
    signature, inputs = network.model.signature, network.problem.test.inputs
    if signature.kind != "table" or not signature.features or inputs.ndim != 2:
        return None
    origins = getattr(network.model.before, "origins", range(len(signature.features)))
    return np.asarray(origins) if len(origins) == inputs.shape[1] else None


class Shuffler:
    """What scikit-learn takes for a fitted estimator. Each cell of its X holds the number of the row it came from."""

    def __init__(self, network: Network, column_of: NDArray[np.int64], bar_of: int) -> None:
        self.network, self.column_of = network, column_of
        self.inputs = network.problem.test.inputs.cpu().numpy()
        self.bar = tqdm(total=bar_of, desc="shuffling columns", disable=None, delay=SHOWN_AFTER, leave=False)

    def fit(self) -> "Shuffler":
        """It is."""
        return self

    def score(self, _: Any, cells: NDArray[np.int64], truth: NDArray[Any]) -> float:
        """Accuracy, or R², when each column comes from the rows that its cells name."""
        shuffled = self.inputs[cells[:, self.column_of], np.arange(len(self.column_of))]
        predictions = self.network.predict(torch.from_numpy(shuffled), shown="").numpy()
        self.bar.update()
        if predictions.shape[1] > 1:
            return float((predictions.argmax(1) == truth).mean())
        return float(r2_score(truth, predictions[:, 0]))
