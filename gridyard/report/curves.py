"""Learning curves: one panel per metric over the epochs, and one for the learning rate."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridyard.report.drawing import BEST, TRAIN, VALIDATION, Panel, legend, logarithmic
from jobs.spec import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 30.0  # a ratio of the largest to the smallest value from which an axis is logarithmic
FEW = 12  # epochs up to which each is marked by a point
NAMES = {  # others as they are: balanced_accuracy is Balanced accuracy
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "roc_auc": "ROC-AUC",
}


def panels(history: Sequence[Json], best_epoch: int | None, units: dict[str, str]) -> list[Panel]:
    """Loss first, then each metric of its epochs, then the learning rate; nothing without a second number to draw."""
    metrics = dict.fromkeys(name.partition("_")[2] for epoch in history for name in epoch if _is_measured(name))
    found = [_metric(history, name, best_epoch, units.get(name, "")) for name in metrics]
    rates = series(history, "lr")
    if any(map(math.isfinite, rates)):
        found.append(Panel(title="Learning rate", draw=lambda axes: _draw_rate(axes, history, rates)))
    return found


def _is_measured(name: str) -> bool:
    return name.startswith(("train_", "val_"))


def name_of(metric: str) -> str:
    """As a title has it: R², Accuracy, Tokens per second."""
    return NAMES.get(metric, metric.replace("_", " ").capitalize())


def series(history: Sequence[Json], name: str) -> list[float]:
    """A value per epoch; NaN where there is none."""
    return [math.nan if epoch.get(name) is None else float(epoch[name]) for epoch in history]


def _metric(history: Sequence[Json], name: str, best_epoch: int | None, unit: str) -> Panel:
    lines = {part: series(history, f"{part}_{name}") for part in ("train", "val")}

    def draw(axes: "Axes") -> None:
        epochs = [int(epoch["epoch"]) for epoch in history]
        marker = "." if len(epochs) <= FEW else ""
        if any(map(math.isfinite, lines["train"])):
            axes.plot(epochs, lines["train"], color=TRAIN, label="training", ls="--", marker=marker)
        axes.plot(epochs, lines["val"], color=VALIDATION, label="validation", marker=marker)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=BEST, lw=1, ls=":", label=f"best epoch {best_epoch}")
        scale(axes, [value for line in lines.values() for value in line if math.isfinite(value)], name)
        epoch_axis(axes)
        axes.set_ylabel(textwrap.fill(f"{name_of(name)} ({unit})" if unit else name_of(name), 34))
        legend(axes)

    return Panel(title=name_of(name), draw=draw)


def scale(axes: "Axes", values: Sequence[float], name: str) -> None:
    """Logarithmic where values differ by orders of magnitude; R² from -1, below which it only says "worse"."""
    if name == "r2":
        if values and min(values) < -1:
            axes.set_ylim(-1, 1.05)
            axes.text(0.99, 0.02, "values below -1 are not shown", transform=axes.transAxes, ha="right", fontsize=7)
    elif values and min(values) > 0 and max(values) / min(values) > WIDE:
        logarithmic(axes)


def epoch_axis(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def _draw_rate(axes: "Axes", history: Sequence[Json], rates: Sequence[float]) -> None:
    epochs = [int(epoch["epoch"]) for epoch in history]
    axes.plot(epochs, rates, color=VALIDATION, marker="." if len(epochs) <= FEW else "")
    known = [rate for rate in rates if math.isfinite(rate)]
    if min(known) > 0 and max(known) / min(known) > WIDE:
        logarithmic(axes)
    else:
        axes.set_ylim(bottom=0)
    epoch_axis(axes)
    axes.set_ylabel("learning rate (last step of the epoch)")
