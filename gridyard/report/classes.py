"""Panels of a classification: confusion, ROC, calibration, confidence, and pictures of mistakes."""

from typing import TYPE_CHECKING, Any

import numpy as np

from gridyard.report.drawing import BEST, COLORS, Panel, columns, count_axis, legend, logarithmic, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jobs.evaluation import Tested
    from jobs.scores import Classification, ClassScores, ConfidenceBin

MOST_CLASSES = 20  # in a confusion matrix
MOST_CURVES = 6  # in one plot
RARE = 20  # times as many right as wrong rows
RIGHT, WRONG = COLORS[2], COLORS[3]


def panels(found: "Classification") -> list[Panel]:
    made = [_confusion(found)] if len(found.classes) <= MOST_CLASSES else []
    made += [_roc(found)] if any(one.roc_auc is not None for one in found.classes) else []
    return [*made, _calibration(found), _confidence(found)]


def pictures(tested: "Tested", found: "Classification") -> list[Panel]:
    """The most confident mistakes, for a figure: a page has them as pictures of their own."""
    return [_pictures(tested, found)] if tested.pictures else []


def _confusion(found: "Classification") -> Panel:
    names = [shown(one.name) for one in found.classes]
    side = max(2.6, 0.46 * len(names))
    label = 0.09 * max(map(columns, names))  # inches that the longest name takes
    across = label > side / len(names)  # names that would touch each other stand upright

    def draw(axes: "Axes") -> None:
        counts = found.confusion
        shares = counts / counts.sum(1, keepdims=True).clip(min=1)
        axes.pcolormesh(shares, cmap=_see_through(), vmin=0, vmax=1)
        for row, column in ((row, column) for row in range(len(names)) for column in range(len(names))):
            if counts[row, column]:
                color = "white" if shares[row, column] > 0.7 else None
                text = f"{counts[row, column]}"
                size = 9 if len(text) < 4 or len(names) <= 4 else 7.5
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=color)
        centres = [number + 0.5 for number in range(len(names))]
        axes.set_xticks(centres, names, rotation=90 if across else 0)
        axes.set_yticks(centres, names)
        axes.tick_params(length=0)
        axes.set(xlabel="predicted class", ylabel="true class", aspect="equal")
        axes.invert_yaxis()
        axes.spines[:].set_visible(True)

    return Panel(
        title="Confusion matrix",
        draw=draw,
        width=side + label + 0.9,
        height=side + (label if across else 0.2) + 0.9,
        note="rows of the test part; the color is the share of the true class",
    )


def _see_through() -> Any:
    """From nothing to full color, so that a page's background shows, light or dark."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    blue = to_rgb("#2f6fae")
    return LinearSegmentedColormap.from_list("share", [(*blue, 0.0), (*blue, 1.0)])


def _roc(found: "Classification") -> Panel:
    known = [one for one in found.classes if one.roc_auc is not None]
    drawn, note = known, "each class against all others"
    if len(found.classes) == 2:
        drawn, note = known[-1:], f'"{shown(found.classes[1].name)}" against "{shown(found.classes[0].name)}"'
    elif len(known) > MOST_CURVES:
        drawn = sorted(known, key=lambda one: one.roc_auc or 0.0)[:MOST_CURVES]
        note = f"each class against all others; the {MOST_CURVES} with the smallest area of {len(known)}"

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=BEST, lw=1, ls=":", label="chance")
        for color, one in zip(COLORS, drawn, strict=False):
            axes.plot(one.fpr, one.tpr, color=color, label=_with_area(one, len(found.classes)), clip_on=False)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1))
        legend(axes, columns=1 if len(drawn) == 1 else 2)

    return Panel(title="ROC curve", draw=draw, height=3.4 + 0.1 * len(drawn), note=note)


def _with_area(one: "ClassScores", classes: int) -> str:
    area = f"area {one.roc_auc:.4f}"
    return area if classes == 2 else f"{shown(one.name, 16)}: {area}"


def _calibration(found: "Classification") -> Panel:
    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=BEST, lw=1, ls=":", label="perfect")
        most = max(one.rows for one in found.bins)
        axes.bar(
            [one.low for one in found.bins],
            [one.accuracy for one in found.bins],
            [one.high - one.low for one in found.bins],
            align="edge",
            color=COLORS[0],
            alpha=0.35,
            label="accuracy",
        )
        confidences, accuracies = [one.confidence for one in found.bins], [one.accuracy for one in found.bins]
        sizes = [12 + 60 * one.rows / most for one in found.bins]
        style: Any = {"label": "mean of the bin (larger: more rows)", "color": COLORS[0], "zorder": 3, "clip_on": False}
        axes.scatter(confidences, accuracies, s=sizes, **style)
        axes.set(xlabel="confidence: probability of the predicted class", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        legend(axes)

    note = f"expected calibration error {found.calibration_error:.4f} ({_bins(found.bins)})"
    return Panel(title="Calibration", draw=draw, note=note)


def _bins(bins: "list[ConfidenceBin]") -> str:
    return f"{len(bins)} of 15 bins of confidence have rows"


def _confidence(found: "Classification") -> Panel:
    edges = [number / 20 for number in range(21)]
    right, wrong = (np.histogram(found.confidence[rows], edges)[0].max() for rows in (found.right, ~found.right))

    def draw(axes: "Axes") -> None:
        parts = {"right": (found.confidence[found.right], RIGHT), "wrong": (found.confidence[~found.right], WRONG)}
        for name, (values, color) in parts.items():
            label = f"{name}: {len(values):,}"
            axes.hist(values, edges, histtype="stepfilled", color=color, alpha=0.3)
            axes.hist(values, edges, histtype="step", color=color, lw=1.4, label=label)
        count_axis(axes)
        if 0 < RARE * wrong < right:  # few wrong among many right ones would not be seen
            logarithmic(axes)
            axes.set_ylim(bottom=0.7)
        axes.set(xlabel="confidence: probability of the predicted class", ylabel="rows of the test part")
        axes.set_xlim(int(found.confidence.min() * 20) / 20, 1)
        legend(axes, columns=2)

    return Panel(title="Confidence", draw=draw)


def _pictures(tested: "Tested", found: "Classification") -> Panel:
    mistakes = found.mistakes[:8]

    def draw(axes: "Axes") -> None:
        axes.axis("off")
        for number, mistake in enumerate(mistakes):
            row, column = divmod(number, 4)
            picture = tested.pictures[mistake.index]
            inset = axes.inset_axes((column / 4 + 0.01, 0.56 - 0.56 * row, 0.22, 0.36))
            inset.imshow(picture, cmap="gray" if picture.ndim == 2 else None, vmin=0, vmax=255)
            inset.set_title(
                f"{shown(mistake.predicted, 12)} ({mistake.confidence:.0%})\nis {shown(mistake.truth, 12)}",
                fontsize=7,
                fontweight="normal",
            )
            inset.set(xticks=[], yticks=[])

    return Panel(title=f"The most confident of {found.wrong:,} mistakes", draw=draw)
