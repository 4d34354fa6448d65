"""GRIDYARD_COMPILE: networks that train one at a time are compiled, and come to what they come to otherwise.

By torch's backend "aot_eager", which traces as the usual one does, and then computes with torch's own operations: in
seconds, without a C++ compiler, and bit for bit as uncompiled.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from jobs import built, forward
from jobs.engine import Options, check
from jobs.errors import SettingsError
from jobs.forward import Mode
from jobs.pack import Pack
from jobs.spec import JobSpec, Outcome, TrainResult
from tests.albums import album
from tests.histories import without_seconds
from tests.training import row_of

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (built, forward):
        monkeypatch.setattr(module, "BACKEND", "aot_eager")
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def graphs() -> int:
    """That were compiled in this test."""
    return counters["stats"]["unique_graphs"]


def numbers(spec: JobSpec, mode: Mode) -> list[dict[str, float]]:
    pack = Pack([row_of(spec)], mode, 1)
    return [pack.advance()[0].metrics for _ in range(2)]


@pytest.mark.parametrize(
    "given",
    [
        {"dropout": 0.3, "batch_norm": True},
        {"activation": "gelu", "precision": "float16", "clip_norm": 1.0},
    ],
)
def test_a_compiled_network_learns_what_it_learns_uncompiled(make_spec: MakeSpec, given: dict[str, Any]) -> None:
    spec = make_spec(batch_size=16, **given)
    assert numbers(spec, Mode.COMPILED) == numbers(spec, Mode.ALONE)
    assert graphs() > 0


def test_jobs_of_one_network_share_what_is_compiled(make_spec: MakeSpec) -> None:
    specs = [make_spec(batch_size=16, seed=seed, lr=0.01 * (1 + seed)) for seed in range(3)]
    numbers(specs[0], Mode.COMPILED)
    before = graphs()
    for spec in specs[1:]:
        assert numbers(spec, Mode.COMPILED) == numbers(spec, Mode.ALONE)
    assert graphs() == before > 0


def test_every_one_of_many_networks_is_compiled(make_spec: MakeSpec) -> None:
    """torch keeps so many codes for a class of modules, eight in fact, and goes on uncompiled beyond them."""
    with torch._dynamo.config.patch(recompile_limit=6):
        for width in range(8, 12):
            before = graphs()
            numbers(make_spec(batch_size=16, hidden=[width]), Mode.COMPILED)
            assert graphs() > before


class TestTheSetting:
    def test_is_recorded_as_the_jobs_mode(
        self, make_spec: MakeSpec, train_one: TrainOne, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
        spec = make_spec("image_folder", data=str(album(tmp_path / "album")), image_size=16, batch_size=8, epochs=2)
        plain, compiled = train_one(spec), train_one(replace(spec, job=2), compile=True)
        assert isinstance(plain, TrainResult)
        assert isinstance(compiled, TrainResult)
        assert [one.environment["pack"]["mode"] for one in (plain, compiled)] == ["alone", "compiled"]
        assert without_seconds(compiled.history) == without_seconds(plain.history)

    def test_is_for_networks_that_train_one_at_a_time(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        result = train_one(make_spec(), compile=True)
        assert result.environment["pack"]["mode"] == "stacked"
        assert graphs() == 0

    def test_is_refused_at_once_where_nothing_can_be_compiled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        check(Options(device="cpu", compile=True))
        monkeypatch.setattr(forward, "BACKEND", "no such backend")
        torch.compiler.reset()
        with pytest.raises(SettingsError, match=r"torch.compile fails here: .*; install a C\+\+ compiler"):
            check(Options(device="cpu", compile=True))
