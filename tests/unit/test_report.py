"""Pages, figures and comparisons of jobs that are in every state."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from db import claiming, ending, leases, steering, submission
from gridyard import cli
from gridyard.client import Yard
from gridyard.job import Job
from gridyard.report import compare, drawing, facts, look, page, write
from jobs import catalogue, scores
from jobs.engine import Options, train
from jobs.errors import InputError, NotFound
from jobs.history import History
from jobs.spec import Assignment, BestModel, Claim, EpochReport, Failure, Objective, SweepSpec, TrainResult
from jobs.states import FailureReason
from jobs.store import Store
from tests.reports import HOSTILE, Reader, made_up
from tests.training import go_on

IRIS, OTHER, SINE, RUNNING, FAILED, READY = 1, 2, 3, 4, 5, 6  # jobs in the order they are claimed
WRITER, OTHER_WRITER = 7, 8


def add(yard: Yard, task: str, cells: list[dict[str, Any]], objective: Objective, epochs: int) -> None:
    """A sweep as it was submitted, whatever its task needs of this machine."""
    fixed = catalogue.find(task).params().model_dump(mode="json")
    spec = SweepSpec(name=task, task=task, fixed=fixed, epochs=epochs, objective=objective)
    with yard.database.writing() as session:
        sweep = submission.add_sweep(session, spec, spec_hash=task, total=len(cells))
        submission.add_jobs(session, sweep, [(number, 0, cell) for number, cell in enumerate(cells)])
        submission.open_sweep(session, sweep)


def claimed(yard: Yard) -> Claim:
    with yard.database.writing() as session:
        (claim,) = claiming.claim(session, queue="cpu", worker="w", lease_seconds=600, limit=1)
    return claim


def finish(yard: Yard, claim: Claim, result: TrainResult) -> None:
    with yard.database.writing() as session:
        assert ending.finish(session, [(claim, result)])


def trained(yard: Yard, store: Store) -> None:
    """The next job, to its end."""
    claim = claimed(yard)
    assignment = Assignment(spec=claim.spec, attempt=claim.attempt)
    options = Options(device="cpu", checkpoint_seconds=100)
    (result,) = train([assignment], store=store, options=options, report=go_on)
    assert isinstance(result, TrainResult)
    finish(yard, claim, result)


def epochs(job: int, count: int) -> list[EpochReport]:
    metrics = {"train_loss": 0.5, "val_loss": 0.6, "val_accuracy": 0.7, "lr": 0.1}
    return [EpochReport(job=job, epoch=number + 1, metrics=metrics, seconds=0.1) for number in range(count)]


def wrote(claim: Claim, text: str) -> TrainResult:
    """What a job of a language model gives that trains nothing."""
    metrics = {"val_perplexity": 12.0, "val_distinct_2": 0.5}
    return TrainResult(
        job=claim.job,
        score=0.5,
        metrics=metrics,
        best_epoch=1,
        epochs=1,
        seconds=2.0,
        history=History.of([EpochReport(job=claim.job, epoch=1, metrics=metrics, seconds=2.0)]),
        best=BestModel(sha256="", size=0, content=b""),
        samples=[{"prompt": HOSTILE, "text": text, "perplexity": 12.0}],
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yard")


@pytest.fixture(scope="module")
def yard(home: Path) -> Iterator[Yard]:
    """Two trainings of iris and one of sine; a running, a failed and a ready job; two that wrote texts."""
    url = f"sqlite:///{home}/gridyard.db"
    yard, store = Yard({"db": url, "store": str(home / "store")}), Store(str(home / "store"))
    accuracy = Objective(metric="val_accuracy", mode="max")
    add(yard, "iris", [{"lr": 0.01}, {"lr": 0.03, "hidden": [32]}], accuracy, epochs=12)
    add(yard, "sine", [{}], Objective(metric="val_mse", mode="min"), epochs=3)
    for _ in range(3):
        trained(yard, store)
    add(yard, "iris", [{}, {}, {}], accuracy, epochs=9)
    running, failed = claimed(yard), claimed(yard)
    with yard.database.writing() as session:
        leases.record_epochs(session, [(running, epochs(running.job, 4))])
        leases.record_epochs(session, [(failed, epochs(failed.job, 2))])
        failure = Failure(job=failed.job, reason=FailureReason.DIVERGED, error=f"nan {HOSTILE}", again=False, epoch=2)
        ending.let_go(session, [(failed, failure)])
    with yard.database.writing() as session:
        steering.pause_sweep(session, 3)
    distinct = Objective(metric="val_distinct_2", mode="max")
    add(yard, "kogpt2", [{"temperature": 0.5}, {"temperature": 1.5}], distinct, epochs=1)
    for text in ("옛날 옛적에\n  산에", HOSTILE):
        claim = claimed(yard)
        finish(yard, claim, wrote(claim, text))
    yield yard
    yard.database.close()


def page_of(job: Job, folder: Path) -> Reader:
    path = folder / f"{job.id}.html"
    job.report(path)
    html = path.read_text(encoding="utf-8")
    assert "url(http" not in html
    assert "@import" not in html
    read = Reader(html)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in read.links)  # nothing is fetched
    assert "script" not in read.tags
    return read


def test_a_report_of_a_classification_tells_what_the_leaderboard_tells(yard: Yard, tmp_path: Path) -> None:
    found = look.look(yard.job(IRIS))
    read = page_of(yard.job(IRIS), tmp_path)
    accuracy = yard.job(IRIS).details().metrics["test_accuracy"]
    assert accuracy is not None
    assert f"{facts.value(accuracy)}accuracy" in re.sub(r"\s", "", read.text)
    for part in ("Confusion matrix", "ROC curve", "Calibration", "Confidence", "Permutation importance"):
        assert part in read.text
    for part in ("versicolor", "nats", "Learning rate", "Parameters", "Environment", "Attempts", "best epoch"):
        assert part in read.text
    assert read.tags.count("svg") == len([*found.learning, *found.testing])


def test_a_report_of_a_regression_shows_residuals_and_units(yard: Yard, tmp_path: Path) -> None:
    read = page_of(yard.job(SINE), tmp_path)
    for part in ("Predicted against true", "Residuals", "The largest residuals", "squared standard deviations"):
        assert part in read.text


def test_a_report_of_texts_shows_them_escaped_with_their_settings(yard: Yard, tmp_path: Path) -> None:
    read = page_of(yard.job(OTHER_WRITER), tmp_path)
    assert read.text.count(HOSTILE) >= 2
    assert "temperature 1.5" in read.text
    assert "The test part" not in read.text


@pytest.mark.parametrize(("job", "word"), [(RUNNING, "it is running"), (FAILED, "it failed (diverged)")])
def test_a_job_without_success_has_its_curves_and_says_what_is_missing(
    yard: Yard, tmp_path: Path, job: int, word: str
) -> None:
    read = page_of(yard.job(job), tmp_path)
    assert f"This job has not succeeded: {word}" in read.text
    assert "Accuracy" in read.text
    assert read.tags.count("svg") == 3


def test_a_job_without_an_epoch_has_no_report(yard: Yard, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"job 6 is (ready|waiting) and has no epoch yet"):
        yard.job(READY).report(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_report_without_the_data_has_all_the_rest(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(params: object, seed: int) -> None:
        raise InputError("the data set is not on this machine")

    monkeypatch.setattr("jobs.tasks.iris.build", build)
    read = page_of(yard.job(IRIS), tmp_path)
    assert "The test part was not predicted again: the data set is not on this machine." in read.text
    assert "Learning rate" in read.text
    assert "Confusion matrix" not in read.text


def test_another_number_than_the_recorded_one_is_told(yard: Yard) -> None:
    found = look.look(yard.job(IRIS))
    assert found.missing == ()
    found.details.metrics["test_accuracy"] = 0.5
    assert found.tested is not None
    (warning,) = look._different(found.details, found.tested)
    assert warning.startswith("The recorded test accuracy is 0.5, but predicted again it is")


@pytest.mark.parametrize("extension", ["png", "svg", "pdf"])
def test_a_plot_is_one_figure_of_the_kind_that_its_name_says(yard: Yard, tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"plot.{extension}"
    yard.job(RUNNING).plot(path)
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[extension]
    assert path.read_bytes().startswith(begins)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/a.html", r"there is no folder .*nowhere; make it"),
        ("a.txt", r"a report is written as \.html or \.htm; give such a name"),
        ("a", r"a report is written as \.html"),
        ("folder.html", r"is a folder; give the name of a file"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match=message):
        write.place(tmp_path / name, "a report", write.PAGES)


def test_pictures_of_mistakes_are_in_the_page(yard: Yard) -> None:
    found = made_up(("cat", "dog"), names=tuple(f"<i>{number}.jpg" for number in range(300)))
    assert isinstance(found.scores, scores.Classification)
    pictures = {one.index: np.full((8, 8, 3), 200, np.uint8) for one in found.scores.mistakes}
    found = made_up(("cat", "dog"), names=found.names, pictures=pictures)
    read = Reader(page.of_job(look.Result(details=yard.job(IRIS).details(), tested=found, missing=())))
    assert read.tags.count("img") == len(pictures)
    assert f"<i>{next(iter(pictures))}.jpg" in read.text


def test_a_comparison_lists_what_differs_and_nothing_else(yard: Yard) -> None:
    found = compare.compare(yard, [IRIS, OTHER])
    assert found.differs == ["hidden", "lr"]
    names = [name for name, _ in compare.rows(found)]
    assert {"lr", "hidden", "test_accuracy", "val_loss", "best epoch", "parameters"} <= set(names)
    assert "optimizer" not in names
    assert found.labels == ["job 1: hidden=[16,8], lr=0.01", "job 2: hidden=[32], lr=0.03"]


def test_a_comparison_as_a_table_of_pandas_has_a_row_per_job(yard: Yard) -> None:
    table = yard.compare([OTHER, IRIS])
    assert table["job"].tolist() == [OTHER, IRIS]
    assert table["lr"].tolist() == [0.03, 0.01]
    assert table["test_accuracy"].tolist() == [
        yard.job(job).details().metrics["test_accuracy"] for job in (OTHER, IRIS)
    ]


def test_a_comparison_draws_curves_of_what_is_shared(yard: Yard, tmp_path: Path) -> None:
    shared = compare.compare(yard, [IRIS, RUNNING]).panels
    assert [panel.title for panel in shared] == ["Loss on validation data", "Accuracy on validation data"]
    two_tasks = compare.compare(yard, [IRIS, SINE]).panels
    assert [panel.title for panel in two_tasks] == ["Loss on validation data"]
    assert "each job in its own unit" in Reader(drawing.as_svg(two_tasks[0])).text
    write.of_comparison(compare.compare(yard, [IRIS, OTHER]), plot=tmp_path / "both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


def test_texts_of_two_jobs_stand_side_by_side_with_their_settings(yard: Yard, tmp_path: Path) -> None:
    found = compare.compare(yard, [WRITER, OTHER_WRITER])
    write.of_comparison(found, report=tmp_path / "texts.html")
    read = Reader((tmp_path / "texts.html").read_text(encoding="utf-8"))
    assert "옛날 옛적에" in read.text
    assert "temperature 0.5" in read.text
    assert "temperature 1.5" in read.text
    assert "script" not in read.tags
    told = compare.as_text(found, 60)
    assert "job 7: temperature=0.5" in told
    assert all(len(line) <= 60 for line in told.partition('"')[2].splitlines())


@pytest.mark.parametrize(
    ("jobs", "error", "message"),
    [
        ([IRIS], InputError, "a comparison takes two or more"),
        ([IRIS, OTHER, IRIS], InputError, "job 1 is given twice"),
        ([IRIS, 99], NotFound, "there is no job 99"),
    ],
)
def test_a_comparison_of_too_few_or_unknown_jobs_is_refused(
    yard: Yard, jobs: list[int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare.compare(yard, jobs)


def test_the_command_writes_files_and_says_so(yard: Yard, home: Path, tmp_path: Path) -> None:
    db = ["--db", f"sqlite:///{home}/gridyard.db"]
    path = tmp_path / "job.html"
    answer = CliRunner().invoke(cli.app, ["show", str(WRITER), "--report", str(path), *db])
    assert (answer.exit_code, answer.stdout) == (0, f"wrote {path}\n")
    assert path.exists()
    answer = CliRunner().invoke(cli.app, ["compare", str(IRIS), str(OTHER), *db])
    assert answer.exit_code == 0
    assert "test_accuracy" in answer.stdout
    answer = CliRunner().invoke(cli.app, ["compare", str(IRIS), str(OTHER), "--json", *db])
    assert '"differs": ["hidden", "lr"]' in answer.stdout


def test_a_job_is_shown_with_its_texts(yard: Yard, home: Path) -> None:
    answer = CliRunner().invoke(cli.app, ["show", str(WRITER), "--db", f"sqlite:///{home}/gridyard.db"])
    assert '"<script>' in answer.stdout
    assert "  옛날 옛적에\n" in answer.stdout


def test_the_best_job_of_a_sweep_is_shown_by_the_sweep(yard: Yard, home: Path) -> None:
    sweep = yard.job(SINE).details().sweep
    shown = [
        CliRunner().invoke(cli.app, ["show", job, "--db", yard.overrides["db"]]) for job in (f"best:{sweep}", str(SINE))
    ]
    assert shown[0].stdout == shown[1].stdout
    assert f"{SINE} of sweep {sweep}: sine" in shown[0].stdout


def test_a_long_parameter_keeps_its_ends_in_a_comparison() -> None:
    assert compare._narrow("[16,8]") == "[16,8]"
    narrow = compare._narrow(f'["{"a" * 60}b"]')
    assert (len(narrow), narrow[:5], narrow[-5:]) == (compare.WIDEST, '["aaa', 'aab"]')
