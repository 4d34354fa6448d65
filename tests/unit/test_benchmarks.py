"""Benchmarks can be run: each is tried on next to nothing. What they measure is no test's business."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__, gpu, packs, plain
from benchmarks.result import Result, parser, publish, refresh

RESULT = Result(benchmark="iris_grid", case="a pack", value=2.0, unit="ms", baseline=3.0, ratio=1.5)


@pytest.mark.parametrize("name", __main__.ALL)
def test_every_benchmark_of_make_bench_can_be_imported(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


def test_a_table_in_the_docs_is_refreshed_and_all_else_kept(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text("before\n<!-- begin iris_grid -->\nold\n<!-- end iris_grid -->\nafter\n")
    (tmp_path / "performance.json").write_text('{"packs": 1}')

    publish([RESULT], parser("").parse_args(["--docs"]), tmp_path)

    text = (tmp_path / "performance.md").read_text()
    assert text.startswith("before\n<!-- begin iris_grid -->\n")
    assert text.endswith("\n<!-- end iris_grid -->\nafter\n")
    assert "| a pack | 2 ms | 3 ms | 1.5 × |  |  |" in text
    assert "old" not in text
    kept = json.loads((tmp_path / "performance.json").read_text())
    assert kept["packs"] == 1
    assert kept["iris_grid"]["results"][0]["value"] == 2.0


def test_a_benchmark_without_a_place_in_the_docs_gets_one_at_their_end() -> None:
    assert refresh("text\n", "new", "table") == "text\n\n<!-- begin new -->\ntable\n<!-- end new -->\n"


def test_a_plain_job_of_the_iris_grid_keeps_the_weights_of_its_best_epoch() -> None:
    trained = plain.train(lr=0.01, weight_decay=0.0, dropout=0.2, seed=0)
    net = plain.perceptron(4, 3, dropout=0.2)
    net.load_state_dict(trained.weights)
    found = plain.evaluate(net, plain.parts(0)[1], "val")
    assert len(trained.history) == plain.EPOCHS
    assert found["val_accuracy"] == max(metrics["val_accuracy"] for metrics in trained.history)


def test_packs_of_each_size_are_measured_and_then_the_one_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "SECONDS", 0.01)
    found = list(packs.run(["iris"], sizes=[1, 2]))
    assert [result.case for result in found[:2]] == ["iris, 1 together", "iris, 2 together"]
    assert found[2].case.startswith("iris, as the trainer chooses")
    assert all(result.value > 0 for result in found)


@pytest.mark.parametrize("name", gpu.CASES)
def test_the_pack_that_is_carried_to_a_gpu_learns_in_every_row(name: str) -> None:
    pack = gpu.Pack(gpu.CASES[name], 2, torch.device("cpu"))
    before = pack.weights.clone()
    pack.epoch(steps=2)
    assert pack.weights.isfinite().all()
    assert (pack.weights != before).any(dim=1).all()


def test_the_benchmark_for_a_gpu_needs_nothing_but_torch_scikit_learn_and_numpy() -> None:
    others = ["pydantic", "sqlalchemy", "safetensors", "fsspec", "celery", "rich", "pandas", "torchvision", "psutil"]
    code = f"import sys; sys.modules.update(dict.fromkeys({others})); import benchmarks.gpu"
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
