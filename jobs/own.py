"""The user's own task: one class in one file, torch-free until it trains.

`jobs/catalogue/own.py` finds it and reads its facts, `jobs/own_problem.py` trains it. See docs/adding-a-task.md.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from jobs.errors import InputError
from jobs.params import MlpParams, TrainingParams

if TYPE_CHECKING:  # they import torch
    from torch import Tensor, nn

    from jobs.problem import Problem, Signature

# The metrics of each kind, by their names in jobs/metrics.py; the first one ranks, unless `objective` says otherwise.
KINDS = {"classification": ("accuracy", "f1"), "regression": ("mse", "rmse", "mae", "r2")}


class OwnTask:
    """Something of the user's own to train. `params` is always an object of the task's `Params`.

    A task needs `name`, `kind` and `data`; or, in place of `kind` and `data`, `problem`, which gives full control.
    """

    name: ClassVar[str] = ""  # what sweep files call it: small letters, digits and _
    summary: ClassVar[str] = ""  # one line; else the first line of the class's docstring
    kind: ClassVar[str] = ""  # what is predicted: "classification" or "regression"
    epochs: ClassVar[int] = 100  # used when the sweep names none
    objective: ClassVar[str] = ""  # such as "val_accuracy"; else the first metric of its kind, else val_loss
    standardise: ClassVar[bool] = True  # the rows' columns, by the mean and spread of their training rows

    # Besides those of its kind: name -> ("max" or "min", function of (predictions, truth)), which gives one number.
    # predictions: (B, classes) logits, or (B, 1) values in the target's unit; truth: (B,) class numbers, or (B, 1).
    metrics: ClassVar[Mapping[str, tuple[str, Callable[["Tensor", "Tensor"], Any]]]] = {}

    Params: ClassVar[type[TrainingParams]] = MlpParams  # each parameter with its type, default and range

    def data(self, params: Any, seed: int) -> Any:
        """All rows with their labels, or {"train": …, "val": …, "test": …} of them where the split is its own.

        Rows and labels are (rows, labels): arrays, tensors or pandas objects, N rows of one shape and N labels. Labels
        are texts or whole numbers of a classification, numbers of a regression. A `jobs.tabular.Table` will do too.
        """
        raise NotImplementedError

    def model(self, params: Any, signature: "Signature") -> "nn.Module":
        """A network with fresh weights: rows (B, *signature.input_shape) to outputs.

        Outputs are logits (B, classes) of a classification, values (B, 1) of a regression. A single logit (B, 1) will
        do for two classes.
        """
        from jobs.tabular import perceptron  # what MlpParams are made for

        return perceptron(params, signature.input_shape[0], outputs=len(signature.classes) or 1)

    def loss(self, params: Any, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """A value for every sample: (B,) or (B, …); the mean is taken outside.

        Targets are (B,) class numbers; or (B, 1): zeros and ones of a single logit, or standardised values.
        """
        from jobs.own_problem import usual_loss

        return usual_loss(self.kind, params, outputs, targets)

    def problem(self, params: Any, seed: int) -> "Problem":
        """All that is trained: by default made of `data`, `model`, `loss` and `metrics`.

        One of the task's own gives the engine its splits, augmentation and network directly; its `model` then gives the
        whole `Model`, so that the file of a best model can be read.
        """
        from jobs.own_problem import made_of_parts

        return made_of_parts(self, params, seed)


def refuse(own: OwnTask, why: str) -> NoReturn:
    """Raises:
    InputError: what the task's own code gave cannot be trained.
    """
    raise InputError(f"task {own.name} ({Path(inspect.getfile(type(own))).name}): {why}")


def shown(value: Any) -> str:
    """What something is, for a message: its type, and its shape where it has one."""
    if value is None:
        return "None (is there a return?)"
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return type(value).__name__ + shape
