"""Nothing waits for the device within an epoch.

The device is torch's "meta", whose tensors have no content: whoever wants to read one fails. What is sent to it is seen
as it passes by. Both hold of a GPU, of which there is none here.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from jobs.forward import Mode
from jobs.hall import fresh
from jobs.pack import Pack
from jobs.row import Row
from jobs.spec import Assignment, JobSpec
from tests.albums import album

MakeSpec = Callable[..., JobSpec]
Given = dict[str, Any]
META = torch.device("meta")
MOVED = {"flip": True, "rotation": 10.0, "translation": 0.1, "color": 0.2}
TABLES: list[tuple[Mode, Given]] = [
    (Mode.STACKED, {"dropout": 0.2, "batch_norm": True, "clip_norm": 1.0}),
    (Mode.STACKED, {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1, "scheduler": {"name": "one_cycle"}}),
    (Mode.ALONE, {"dropout": 0.2, "optimizer": "rmsprop", "clip_norm": 1.0}),
    (Mode.ALONE, {"optimizer": "nadam", "batch_norm": True}),
]


class Copied(TorchDispatchMode):
    """Counts the copies to the device for which torch waits until they are there."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default) and found.device == META:
            from_cpu = any(isinstance(one, Tensor) and one.device.type == "cpu" for one in args)
            self.waiting += from_cpu and not (kwargs or {}).get("non_blocking") and args[2:] != (True,)
        return found


class Made(TorchFunctionMode):
    """Counts the tensors that are made of Python's numbers on the device: each is a copy that no dispatcher sees."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.waiting += func in (torch.tensor, torch.as_tensor) and found.device == META
        return found


def waits(rows: Sequence[Row], mode: Mode, steps: int) -> int:
    """How often torch waits for the device in an epoch of so many steps."""
    pack = Pack(rows, mode, len(rows))
    rates = np.full((len(rows), steps), 0.01)
    with Copied() as copied, Made() as made:
        pack.train(rates)
    return copied.waiting + made.waiting


def rows_of(spec: JobSpec, mode: Mode) -> list[Row]:
    rows = [fresh(Assignment(spec=spec, attempt=1), META) for _ in range(1 if mode is Mode.ALONE else 3)]
    return [row for row in rows if isinstance(row, Row)]


def test_a_step_that_waits_is_found(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(make_spec(batch_size=16), Mode.STACKED)
    epoch = Pack.train

    def train(self: Pack, rates: Any) -> Any:
        for _ in range(rates.shape[1]):
            torch.tensor([1.0], device=META)
            torch.ones(3).to(META)
        return epoch(self, rates)

    monkeypatch.setattr(Pack, "train", train)
    assert waits(rows, Mode.STACKED, 4) == waits(rows, Mode.STACKED, 1) + 6
    with pytest.raises(RuntimeError, match="meta"):
        torch.ones(1, device=META).item()


def test_no_step_in_float16_waits(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.group.precise", lambda device, precision: contextlib.nullcontext())  # meta has no float16
    monkeypatch.setattr("jobs.scaling.read", lambda counts: 0)  # once, before the epoch
    rows = rows_of(make_spec(batch_size=16, precision="float16", clip_norm=1.0), Mode.STACKED)
    assert waits(rows, Mode.STACKED, 4) == waits(rows, Mode.STACKED, 1) > 0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])  # torch has no "meta" of the one for sgd
def test_no_step_of_a_wide_row_waits(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    """It is updated by torch's fused kernels, as on a GPU."""
    monkeypatch.setattr("jobs.optimizers.FUSED_ON", ("meta",))
    rows = rows_of(make_spec(hidden=[100, 100], batch_size=16, optimizer=optimizer, momentum=0.9), Mode.ALONE)
    assert waits(rows, Mode.ALONE, 4) == waits(rows, Mode.ALONE, 1) > 0


@pytest.mark.parametrize(("mode", "given"), TABLES)
def test_no_step_of_a_table_waits(make_spec: MakeSpec, mode: Mode, given: Given) -> None:
    rows = rows_of(make_spec(batch_size=16, **given), mode)
    assert waits(rows, mode, 4) == waits(rows, mode, 1) > 0, "what is drawn for an epoch is sent once"


def test_no_step_waits_where_classes_are_weighted(make_spec: MakeSpec, tmp_path: Path) -> None:
    lines = [f"{number},{number % 7},{'yes' if number % 3 else 'no'}" for number in range(100)]
    (tmp_path / "own.csv").write_text("\n".join(["a,b,bought", *lines]))
    given = {"data": str(tmp_path / "own.csv"), "target": "bought", "kind": "classification"}
    spec = make_spec("table", batch_size=16, class_weights="balanced", **given)
    rows = rows_of(spec, Mode.STACKED)
    waits(rows, Mode.STACKED, 1)  # the weights themselves are sent once
    assert waits(rows, Mode.STACKED, 4) == waits(rows, Mode.STACKED, 1)


@pytest.mark.parametrize("mode", [Mode.MAPPED, Mode.ALONE])
@pytest.mark.parametrize("given", [{}, MOVED])
def test_no_step_on_pictures_waits(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, given: Given
) -> None:
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
    spec = make_spec("image_folder", data=str(album(tmp_path / "album")), image_size=16, batch_size=8, **given)
    rows = rows_of(spec, mode)
    assert waits(rows, mode, 4) == waits(rows, mode, 1) > 0
