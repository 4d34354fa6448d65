"""A model taken elsewhere: every file computes what the model does, and the card says how to use it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from gridyard import cli
from gridyard import export as writing
from gridyard.client import Yard
from gridyard.job import Job
from jobs import artifact, export
from jobs.errors import InputError, JobsFailed, NotFound
from jobs.images import problem as images
from jobs.problem import Model, Signature
from jobs.tasks import iris
from tests.trained import trained, yard_at


@pytest.fixture(scope="module")
def job(yard: Yard) -> Job:
    return trained(yard, task="iris", epochs=5)


@pytest.fixture(scope="module")
def done(job: Job, tmp_path_factory: pytest.TempPathFactory) -> writing.Exported:
    return job.export(tmp_path_factory.mktemp("export") / "iris")


def test_every_format_is_written_and_none_is_left_half(job: Job, done: writing.Exported) -> None:
    folder = Path(done.folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(done.files)
    assert sorted(done.files) == ["README.md", "model.onnx", "model.pt2", "model.safetensors"]
    assert {name: (folder / name).stat().st_size for name in done.files} == done.files
    assert (folder / "model.safetensors").read_bytes() == job.content()
    assert (done.notes, done.failed) == ([], False)


def test_each_file_is_compared_on_real_rows_and_agrees(done: writing.Exported) -> None:
    assert set(done.checks) == {"model.onnx", "model.pt2"}
    for check in done.checks.values():
        assert check.passed
        assert check.real == 30  # all of the test part
        assert check.rows == check.real + export.RANDOM_ROWS + 1


def test_onnxruntime_alone_predicts_what_the_model_does(job: Job, done: writing.Exported) -> None:
    session = onnxruntime.InferenceSession(Path(done.folder) / "model.onnx")
    rows = iris.table().rows.astype(np.float32)
    (found,) = session.run(None, {"rows": rows})
    assert found == pytest.approx(job.load()(rows).detach().numpy(), abs=1e-5)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == ["setosa", "versicolor", "virginica"]
    assert len(json.loads(facts["features"])) == 4


def test_the_card_tells_what_is_needed_to_use_and_to_repeat_it(job: Job, done: writing.Exported) -> None:
    card, details = (Path(done.folder) / "README.md").read_text(), job.details()
    assert details.environment["data"] in card
    assert f"- torch: {details.environment['torch']}" in card
    assert "| petal length (cm) | 3.74889 | 1.79414 |" in card  # mean and std of the training rows
    assert "setosa, versicolor, virginica" in card
    assert f"| accuracy | {details.metrics['train_accuracy']:.6g} |" in card
    assert "Licence: CC BY 4.0 (UCI)" in card
    for name in details.params:
        assert f"- `{name}`: " in card


def test_the_code_on_the_card_runs(
    done: writing.Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(done.folder)
    names = ",".join(iris.table().features)
    Path("rows.csv").write_text(f"{names}\n5.1,3.5,1.4,0.2\n")
    codes = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert len(codes) == 3
    for code in codes:
        exec(compile(code, "the card", "exec"), {})
    assert "'class': " in capsys.readouterr().out
    Path("rows.csv").unlink()


def test_a_folder_that_is_not_empty_is_left_alone_unless_forced(job: Job, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty; give a new folder, or --force"):
        job.export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    job.export(tmp_path, formats=["safetensors"], force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "model.safetensors", "README.md"}
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_link_in_the_folder_is_replaced_and_not_followed(job: Job, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model.safetensors").symlink_to(tmp_path / "elsewhere")
    job.export(tmp_path / "out", formats=["safetensors"], force=True)
    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert artifact.load((tmp_path / "out/model.safetensors").read_bytes()).task == "iris"


def test_what_cannot_be_done_is_said_before_anything_is_written(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file; give a folder"):
        job.export(tmp_path / "file")
    with pytest.raises(InputError, match="there is no format 'onxx'; did you mean \"onnx\""):
        job.export(tmp_path / "new", formats=["onxx"])
    assert not (tmp_path / "new").exists()


def test_a_job_without_a_model_is_refused(yard: Yard, tmp_path: Path) -> None:
    sweep = yard.submit(task="iris", epochs=1, name="waits")
    waiting = Job(yard, sweep.status().total + 1)
    with pytest.raises(NotFound, match="has no model: it is ready"):
        waiting.export(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_one_message(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        job.export(tmp_path / "file" / "below", formats=["safetensors"])


def test_the_command_prints_the_largest_differences_and_nothing_of_the_exporters(
    yard: Yard, job: Job, tmp_path: Path
) -> None:
    words = ["export", str(job.id), str(tmp_path / "out"), "--format", "onnx", "--db", yard.overrides["db"]]
    answer = CliRunner(env={"GRIDYARD_STORE": yard.overrides["store"]}).invoke(cli.app, words)
    assert answer.exit_code == 0
    assert answer.stderr == ""
    assert re.search(
        r"largest difference \S+ of the largest prediction \(allowed 0.0001\), \S+ absolute, on 95 rows, 30 of the ",
        answer.stdout,
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.onnx", "README.md"}


# Models that are not like the others


class Odd(nn.Module):
    """Computes something that no format holds: it looks into the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, rows: Tensor) -> Tensor:
        return rows[:, :1] * self.weight if float(rows.sum()) > 0 else rows[:, 1:2] * self.weight


def odd(kind: str = "table") -> Model:
    model = Model(Signature(kind=kind, input_shape=(4,)), before=nn.Identity(), net=Odd(), after=nn.Identity())
    model.task = "iris"
    return model.eval()


def test_a_format_that_is_not_possible_is_left_out_in_one_line(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "load", lambda content: odd())
    done = job.export(tmp_path / "all")
    (note,) = done.notes
    assert note.startswith("model.onnx and model.pt2 left out: ")
    assert "\n" not in note
    assert (sorted(done.files), done.failed) == (["README.md", "model.safetensors"], False)
    assert job.export(tmp_path / "asked", formats=["onnx", "safetensors"]).failed


def test_a_language_model_is_written_as_safetensors_alone(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "load", lambda content: odd("text"))
    done = job.export(tmp_path / "out")
    assert done.notes == [
        "model.onnx and model.pt2 left out: a language model writes in a loop, which these formats do not hold"
    ]
    assert (sorted(done.files), done.failed) == (["README.md", "model.safetensors"], False)


def test_where_no_format_is_possible_nothing_is_written_and_it_is_said_once(
    yard: Yard, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "load", lambda content: odd("text"))
    with pytest.raises(JobsFailed, match=r"model\.onnx left out: a language model .*; nothing was written"):
        job.export(tmp_path / "out", formats=["onnx"])
    assert not (tmp_path / "out").exists()
    words = ["export", str(job.id), str(tmp_path / "both"), "--db", yard.overrides["db"]]
    words += ["--format", "onnx", "--format", "safetensors"]
    answer = CliRunner(env={"GRIDYARD_STORE": yard.overrides["store"]}).invoke(cli.app, words)
    assert isinstance(answer.exception, JobsFailed)
    assert "left out" in str(answer.exception)
    assert "left out" not in answer.stdout


@pytest.mark.parametrize("words", [["predict", "1", "a=1"], ["export", "1", "out"], ["repeat", "1"]])
def test_a_job_without_a_model_is_refused_before_torch_is_imported(words: list[str], tmp_path: Path) -> None:
    yard = yard_at(tmp_path)
    yard.submit(task="iris", epochs=1)
    yard.database.close()
    code = "import sys; from gridyard import cli; from typer.testing import CliRunner; "
    code += f"found = CliRunner().invoke(cli.app, {[*words, '--db', yard.overrides['db']]!r}); "
    code += "print(found.exception, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert re.match(r"job 1 (has no model: it )?is ready.* False$", done.stdout)


def test_a_file_that_computes_something_else_is_not_written(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is given a file's answers that are off by more than the tolerance."""
    make, read = export.FORMATS["torch"]
    monkeypatch.setitem(export.FORMATS, "torch", (make, lambda content: lambda rows: read(content)(rows) + 0.1))
    done = job.export(tmp_path / "out", formats=["safetensors", "torch"])
    assert done.failed
    assert done.checks["model.pt2"].absolute == pytest.approx(0.1, rel=1e-3)
    assert done.notes == ["model.pt2 left out: it computes something else than the model"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "model.safetensors"]


def test_a_difference_counts_wherever_only_one_is_a_number() -> None:
    nan, inf = float("nan"), float("inf")
    same = torch.tensor([1.0, nan, inf, -inf])
    assert export.difference(same, same) == 0
    assert export.difference(same, torch.tensor([1.0, 2.0, inf, -inf])) == inf
    assert export.difference(same, torch.tensor([1.5, nan, inf, -inf])) == 0.5


def test_a_network_on_pictures_takes_bytes_of_any_number_of_pictures() -> None:
    signature = Signature(kind="image", input_shape=(3, 8, 8), classes=("a", "b"))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1))
    model = images.model(signature, net).eval()
    made = export.program(model)
    for make, read in export.FORMATS.values():
        real = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
        check = export.check(model, read(make(made, model)), real)
        assert check.passed
        assert check.real == 5
