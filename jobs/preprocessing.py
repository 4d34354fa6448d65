"""What a model does to raw rows before its network, and to outputs after it, in words and numbers."""

from collections.abc import Sequence

from torch import Tensor, nn

from jobs.column_layers import CLIP, Expand, UnstandardiseLog
from jobs.images.networks import MIDDLE, Scale
from jobs.images.reading import DIGIT
from jobs.layers import BothLogits, Standardise, Unstandardise
from jobs.problem import Model, Signature
from jobs.schema import Column, columns_of

Lines = list[str]
MOST_VALUES = 12  # of a category that are written out


def inputs(model: Model) -> Lines:
    """What a raw row is, and what becomes of it, as lines of Markdown."""
    signature, before = model.signature, model.before
    shape = ", ".join(map(str, signature.input_shape))
    if signature.kind == "text":
        weights = "" if "model" not in signature.about else f" The weights are those of `{signature.about['model']}`."
        return [f"A text, which the model continues.{weights}"]
    if signature.kind == "image":
        lines = [f"Pictures (batch, {shape}): channels, rows, columns of pixels, bytes of 0 to 255.", _read(signature)]
    else:
        lines = [f"Rows (batch, {shape}) of numbers."]
    if isinstance(before, Scale):
        return [*lines, f"The model computes pixel / {MIDDLE:g} - 1 itself: its network sees -1 to 1."]
    if isinstance(before, Expand):
        return [*lines, *_expanded(before, columns_of(signature))]
    if isinstance(before, Standardise) and len(signature.input_shape) == 1:
        told = "The model computes (value - mean) / std itself; mean and std are those of the training rows."
        return [*lines, told, "", *_standardised(before, signature)]
    return [*lines, f"The model then applies `{type(before).__name__}` itself."]


def _read(signature: Signature) -> str:
    """How `gridyard predict` makes such a picture of a file."""
    channels, *sides = signature.input_shape
    if signature.about.get("shows") == DIGIT:
        return "From a file Gridyard finds the digit, makes it light on dark, crops and centres it as MNIST has them."
    colours = "gray" if channels == 1 else "RGB"
    size = " x ".join(map(str, sides))
    return f"A file Gridyard turns upright, converts to {colours}, and squeezes to {size} (bilinear, nothing cut off)."


def outputs(model: Model) -> Lines:
    """What the model gives, as lines of Markdown."""
    classes = model.classes
    if model.signature.kind == "text":
        return ["The text, continued."]
    if classes:
        lines = [f"Logits (batch, {len(classes)}), of the classes in this order: {', '.join(map(one_line, classes))}."]
        lines += ["Their softmax is the probabilities; the largest is the predicted class."]
        if isinstance(model.after, BothLogits):
            lines += ["The network has one output z; the logits are 0 and z."]
        return lines
    of = f" of {one_line(model.signature.about['target'])}" if model.signature.about.get("target") else ""
    return [f"Values (batch, 1){of}, in the unit of the data.", *_taken_back(model.after)]


def _taken_back(after: nn.Module) -> Lines:
    """From the network's output to a value."""
    if not isinstance(after, Unstandardise):
        return []
    told = f"output · {_one(after.std)} + {_one(after.mean)}"
    if isinstance(after, UnstandardiseLog):
        told = f"exp({told}, at least {_one(after.low)} and at most {_one(after.high)}) - 1"
        return [f"The model computes {told} itself: it has learned log(1 + value), standardised."]
    return [f"The model computes {told} itself: it has learned standardised values."]


def _one(tensor: Tensor) -> str:
    return ", ".join(f"{value:.6g}" for value in tensor.flatten().tolist())


def _standardised(before: Standardise, signature: Signature) -> Lines:
    names = signature.features or tuple(f"column {place}" for place in range(1, len(before.mean) + 1))
    rows = zip(names, before.mean.tolist(), before.std.tolist(), strict=True)
    return table(["column", "mean", "std"], [[name, f"{mean:.6g}", f"{std:.6g}"] for name, mean, std in rows])


def _expanded(before: Expand, columns: Sequence[Column]) -> Lines:
    """The table of raw columns that are numbers, dates and categories."""
    numbers = iter(zip(before.median.tolist(), before.mean.tolist(), before.std.tolist(), strict=True))
    rows = []
    for column in columns:
        if column.kind == "category":
            rows.append([column.name, "category", f"its place, from 0, in: {_values(column)}; any other -1"])
            continue
        median, mean, std = next(numbers)
        unit = " (days since 1970-01-01)" if column.kind == "date" else ""
        rows.append([column.name, column.kind, f"median {median:.6g}, mean {mean:.6g}, std {std:.6g}{unit}"])
    told = (
        "A missing cell is NaN. The model itself takes the median for a missing number or date, computes "
        f"(value - mean) / std, at most {CLIP:g} either way, and gives each value of a category an input of its own, "
        "and each column that had missing cells one that tells them. All numbers are of the training rows."
    )
    return [told, "", *table(["column", "kind", "what it holds"], rows)]


def _values(column: Column) -> str:
    few = ", ".join(column.values[:MOST_VALUES])
    return few if len(column.values) <= MOST_VALUES else f"{few} … ({len(column.values)} values)"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    """A table in Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    return [f"| {' | '.join(map(one_line, line))} |" for line in lines]


def one_line(cell: str) -> str:
    """Names come from the user's files: none may break the table."""
    return " ".join(cell.split()).replace("|", "\\|")


def parameters(network: nn.Module) -> int:
    """Numbers that were trained."""
    return sum(weight.numel() for weight in network.parameters())
