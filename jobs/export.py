"""A trained model as files that other programs read, each compared with the model it was made of."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jobs.problem import Model

TOLERANCE = 1e-4  # of the largest prediction, or of 1 where that is more: float32 sums in another order differ by less
RANDOM_ROWS = 64
INPUT, OUTPUT = "rows", "predictions"  # names in the ONNX file

Program = torch.export.ExportedProgram
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Check:
    """How far predictions of an exported file are from the model's, on the same rows."""

    rows: int  # different ones
    real: int  # of them from the test part; the others are random
    absolute: float  # largest difference
    relative: float  # the same, to the largest prediction, at least to 1

    @property
    def passed(self) -> bool:
        return self.relative <= TOLERANCE


class Whole(nn.Module):
    """The model as one function of raw rows. torch.export needs a forward with nothing but tensors in it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Tensor) -> Tensor:
        predictions: Tensor = self.model(rows)
        return predictions


def program(model: Model) -> Program:
    """The whole model for any number of rows, by torch.export.

    Raises:
        Exception: torch's own, of an operation that it cannot export.
    """
    rows = {INPUT: {0: torch.export.Dim("batch")}}
    with quiet():
        return torch.export.export(Whole(model.cpu().eval()), (random_rows(model, 2),), dynamic_shapes=rows)


def as_torch(made: Program, model: Model) -> bytes:
    """A .pt2 file: `torch.export.load` reads it."""
    file = io.BytesIO()
    with quiet():
        torch.export.save(made, file)
    return file.getvalue()


def as_onnx(made: Program, model: Model) -> bytes:
    """An ONNX file: its input is called rows, its output predictions.

    Raises:
        Exception: torch's own, of an operation that ONNX does not have.
    """
    with quiet():
        found = torch.onnx.export(made, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    assert found is not None  # it was given no file to write to
    signature = model.signature
    facts = {"task": model.task, "kind": signature.kind}
    lists = {"classes": signature.classes, "features": signature.features}
    for name, value in {**facts, **{name: json.dumps(value) for name, value in lists.items()}}.items():
        found.model.metadata_props[name] = value
    content: bytes = found.model_proto.SerializeToString()
    return content


def of_torch(content: bytes) -> Predict:
    """What the .pt2 file computes."""
    with quiet():
        module = torch.export.load(io.BytesIO(content)).module()
    return torch.inference_mode()(module)


def of_onnx(content: bytes) -> Predict:
    """What the ONNX file computes, by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda rows: torch.from_numpy(session.run([OUTPUT], {INPUT: rows.numpy()})[0])


# format -> how a file is made, and read again
FORMATS = {"onnx": (as_onnx, of_onnx), "torch": (as_torch, of_torch)}


def check(model: Model, other: Predict, real: Tensor | None) -> Check:
    """Compare on random rows, on these real ones, and on one row alone.

    Args:
        real: (N, *input_shape) raw rows; None: there are none.
    """
    batches = [random_rows(model, RANDOM_ROWS), random_rows(model, 1)]
    if real is not None:
        batches += [real.to(row_type(model)), real[:1].to(row_type(model))]
    absolute, largest = 0.0, 1.0
    with torch.inference_mode():
        for batch in batches:
            expected, found = model(batch).double(), other(batch).double()
            assert expected.shape == found.shape
            absolute = max(absolute, difference(expected, found))
            largest = max(largest, expected[expected.isfinite()].abs().amax().item() if expected.numel() else 0.0)
    known = 0 if real is None else len(real)
    return Check(rows=RANDOM_ROWS + 1 + known, real=known, absolute=absolute, relative=absolute / largest)


def difference(expected: Tensor, found: Tensor) -> float:
    """The largest; infinite where only one of both is a number."""
    same = (expected == found) | (expected.isnan() & found.isnan())
    return (expected - found).abs().nan_to_num(float("inf")).where(~same, 0.0).amax().item()


def random_rows(model: Model, count: int) -> Tensor:
    """(count, *input_shape), the same each time: pixels of 0 to 255, or numbers of a normal distribution."""
    draws = torch.Generator().manual_seed(count)
    shape = (count, *model.signature.input_shape)
    if row_type(model) == torch.uint8:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    return torch.randn(shape, generator=draws)


def row_type(model: Model) -> torch.dtype:
    """Of raw rows in exported files: pictures are bytes."""
    return torch.uint8 if model.signature.kind == "image" else torch.float32


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporters print, log and warn of what a reader can do nothing about."""
    silence = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
