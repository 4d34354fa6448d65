"""Panels of a regression: predicted against true, residuals; and the importance of a table's columns."""

from typing import TYPE_CHECKING

import numpy as np

from gridyard.report.drawing import BEST, COLORS, Panel, count_axis, legend, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from jobs.evaluation import Tested
    from jobs.scores import Regression

MOST_POINTS = 1_500  # of a scatter plot: more are a blot, and a page of megabytes
MANY = 1_000  # rows from which the most extreme hundredth would leave the rest no room in a histogram
MOST_COLUMNS = 20  # whose importance is drawn


def panels(tested: "Tested", found: "Regression") -> list[Panel]:
    points = chosen(len(tested.truth))
    total = len(tested.truth)
    note = f"{len(points):,} of {total:,} test rows, drawn at random" if len(points) < total else f"{total:,} test rows"
    return [_against(tested, points, note), _residuals(tested, found, points, note), _spread(tested, found)]


def chosen(rows: int) -> "NDArray[np.int64]":
    """The rows that are drawn: all, or a sample that is always the same."""
    if rows <= MOST_POINTS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, MOST_POINTS, replace=False))


def named(what: str, tested: "Tested") -> str:
    """predicted price (USD)"""
    name = f"{what} {shown(tested.target) or 'value'}"
    return f"{name} ({tested.unit})" if tested.unit else name


def _against(tested: "Tested", points: "NDArray[np.int64]", note: str) -> Panel:
    def draw(axes: "Axes") -> None:
        truth, predicted = tested.truth[points], tested.predictions[points]
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        axes.plot(ends, ends, color=BEST, lw=1, ls=":", label="perfect")
        axes.scatter(truth, predicted, s=9, alpha=_alpha(len(points)), color=COLORS[0], lw=0, label="a row")
        axes.set(xlabel=named("true", tested), ylabel=named("predicted", tested))
        legend(axes)

    return Panel(title="Predicted against true", draw=draw, note=note)


def _alpha(points: int) -> float:
    return 0.8 if points <= 300 else 0.4


def _residuals(tested: "Tested", found: "Regression", points: "NDArray[np.int64]", note: str) -> Panel:
    def draw(axes: "Axes") -> None:
        predicted, residuals = tested.predictions[points], found.residuals[points]
        axes.axhline(0, color=BEST, lw=1, ls=":")
        axes.scatter(predicted, residuals, s=9, alpha=_alpha(len(points)), color=COLORS[0], lw=0)
        axes.set(xlabel=named("predicted", tested), ylabel=f"predicted - true{_unit(tested)}")

    return Panel(title="Residuals", draw=draw, note=note)


def _unit(tested: "Tested") -> str:
    return f" ({tested.unit})" if tested.unit else ""


def _spread(tested: "Tested", found: "Regression") -> Panel:
    ends = [0.005, 0.995] if len(found.residuals) >= MANY else [0, 1]
    low, high = np.quantile(found.residuals, ends)
    inside = found.residuals[(found.residuals >= low) & (found.residuals <= high)]
    outside = len(found.residuals) - len(inside)

    def draw(axes: "Axes") -> None:
        axes.hist(inside, bins=min(40, max(8, len(inside) // 10)), color=COLORS[0], alpha=0.75)
        axes.axvline(0, color=BEST, lw=1, ls=":")
        axes.set(xlabel=f"predicted - true{_unit(tested)}", ylabel="rows of the test part")
        count_axis(axes)

    note = f"without the {outside:,} most extreme rows" if outside else ""
    return Panel(title="Residuals, counted", draw=draw, note=note)


def importance(tested: "Tested") -> list[Panel]:
    """How much shuffling each column costs; nothing for what is no table."""
    if not tested.importance:
        return []
    drawn = tested.importance[:MOST_COLUMNS][::-1]
    judged = "accuracy" if tested.classes else "R²"

    def draw(axes: "Axes") -> None:
        bars = range(len(drawn))
        axes.barh(bars, [one.drop for one in drawn], color=COLORS[0], alpha=0.75)
        axes.errorbar([one.drop for one in drawn], bars, xerr=[one.std for one in drawn], fmt="none", ecolor=BEST)
        axes.set_yticks(bars, [shown(one.feature, 28) for one in drawn])
        axes.axvline(0, color=BEST, lw=1)
        axes.set(xlabel=f"drop in {judged} when shuffled", ylabel="column")

    few = (
        f"the {MOST_COLUMNS} first of {len(tested.importance)} columns; " if len(drawn) < len(tested.importance) else ""
    )
    rows = f"{tested.importance_rows:,} of {len(tested.truth):,} test rows"
    note = f"{few}mean and standard deviation of 10 shuffles, {rows}"
    return [Panel(title="Permutation importance", draw=draw, height=1.2 + 0.2 * len(drawn), note=note)]
