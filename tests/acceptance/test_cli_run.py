"""`gridyard run` from a grid file to a leaderboard, undisturbed and disturbed: the same numbers, to the last digit."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.folders import GRID, ONE_BY_ONE, Folder, is_gone, wait_until

DIVERGING = """
name: mixed
task: sine
cells: [{lr: 0.05, degree: 3}, {lr: 100.0, degree: 9, optimizer: sgd}]
epochs: 20
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("run") / "undisturbed")
    answer = folder.gridyard("run", "grid.yaml", "--workers", "2")
    assert answer.returncode == 0, answer.stderr
    (folder.path / "stdout").write_text(answer.stdout)
    (folder.path / "stderr").write_text(answer.stderr)
    return folder


def test_a_run_ends_with_a_leaderboard_and_leaves_nothing_running(undisturbed: Folder) -> None:
    printed = (undisturbed.path / "stdout").read_text()
    assert "sweep 1: 8 jobs of iris" in printed
    assert "rank  job" in printed
    assert ".gridyard/gridyard.db" in printed
    assert "8/8 jobs, 0 running, 0 failed" in (undisturbed.path / "stderr").read_text()
    status = undisturbed.json("status", "1")
    assert (status["state"], status["jobs"]["succeeded"], status["workers"]) == ("finished", 8, 0)
    assert is_gone(undisturbed.worker_pid())


def test_the_best_model_of_a_run_loads_and_takes_raw_rows(undisturbed: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import gridyard

    monkeypatch.chdir(undisturbed.path)
    yard = gridyard.connect()
    best = yard.sweep(1).best()
    model = best.load()
    setosa, virginica = torch.tensor([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.8, 2.3]])
    assert not model.training
    assert model(torch.stack([setosa, virginica])).argmax(dim=1).tolist() == [0, 2]
    assert list(best.history()["epoch"])[:3] == [1, 2, 3]
    assert list(yard.sweep(1).leaderboard(3)["rank"]) == [1, 2, 3]
    yard.database.close()


def test_a_run_whose_trainer_cannot_start_ends_with_the_reason(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "device", device="cuda:7")
    answer = folder.gridyard("run", "grid.yaml", "--workers", "2")
    assert answer.returncode == 2
    *_, last = answer.stderr.splitlines()
    assert last.startswith("gridyard: the worker has stopped because it cannot start a trainer: ")
    assert "device 'cuda:7': this machine has only cpu" in last
    assert "Traceback" not in answer.stderr
    assert folder.json("status", "1")["jobs"]["ready"] == 8


def test_ctrl_c_leaves_a_sweep_that_resume_carries_on(undisturbed: Folder, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "ctrl_c", GRID + ONE_BY_ONE)
    running = folder.start("run", "grid.yaml", "--workers", "2")
    folder.wait_for_the_middle()
    worker = folder.worker_pid()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "gridyard resume 1" in errors
    assert "Traceback" not in errors
    assert is_gone(worker)
    carried_on = folder.gridyard("resume", "1", "--workers", "2")
    assert carried_on.returncode == 0, carried_on.stderr
    assert folder.numbers() == undisturbed.numbers()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # dead, and not yet fetched by whoever inherited it
    except psutil.NoSuchProcess:
        return False


def test_a_second_ctrl_c_kills_a_worker_that_does_not_stop_and_its_trainers(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "twice", grid="task: iris\ngrid: {lr: [0.003, 0.01, 0.03]}\nepochs: 1000\n" + ONE_BY_ONE)
    running = folder.start("run", "grid.yaml", "--workers", "1")
    folder.wait_for_the_middle()
    worker = psutil.Process(folder.worker_pid())
    trainers = worker.children()
    worker.suspend()  # it hears no SIGTERM
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    told = next(line for line in running.stderr if line.startswith("stopping"))
    assert told == "stopping: running jobs write their last checkpoint; Ctrl-C again to stop at once\n"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=8)  # seconds; the worker has 10 to stop, and 10 more before it is killed
    assert running.returncode == 130
    assert "gridyard resume 1" in errors
    assert "Traceback" not in errors
    assert trainers
    wait_until(lambda: not any(_runs(process) for process in (worker, *trainers)), seconds=10)
    assert folder.json("status", "1")["jobs"]["running"] == 0  # taken back: resume need not wait for leases


def test_a_run_for_a_gpu_says_that_there_is_none(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "gpu", grid="task: iris\nresources: {gpu: 1}\nepochs: 1\n")
    folder.environment["CUDA_VISIBLE_DEVICES"] = ""
    answer = folder.gridyard("run", "grid.yaml", "--workers", "1")
    assert answer.returncode == 0, answer.stderr
    assert "no GPU is visible here; training on the CPU" in answer.stderr


def test_a_run_says_that_its_store_cannot_be_used(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "store", grid="task: iris\nepochs: 1\n", store=str(tmp_path / "store" / "grid.yaml"))
    answer = folder.gridyard("run", "grid.yaml", "--workers", "1")
    assert answer.returncode == 0, answer.stderr
    assert ": the store cannot be used, so no checkpoint is written, and no large model: store " in answer.stderr


def test_a_worker_killed_in_the_middle_is_started_again_and_changes_no_number(
    undisturbed: Folder, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "killed", GRID + ONE_BY_ONE)
    running = folder.start("run", "grid.yaml", "--workers", "2")
    folder.wait_for_the_middle()
    os.kill(folder.worker_pid(), signal.SIGKILL)
    _, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert "the worker died (SIGKILL); starting it again" in errors
    assert folder.numbers() == undisturbed.numbers()


def test_a_run_that_is_killed_takes_its_worker_with_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "orphan", GRID + ONE_BY_ONE)
    running = folder.start("run", "grid.yaml", "--workers", "2")
    folder.wait_for_the_middle()
    worker = folder.worker_pid()
    running.kill()
    running.communicate()
    wait_until(lambda: is_gone(worker), seconds=60)


def test_failed_jobs_are_named_and_end_a_run_with_1(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "failing")
    (folder.path / "mixed.yaml").write_text(DIVERGING)
    answer = folder.gridyard("run", "mixed.yaml", "--workers", "1")
    assert answer.returncode == 1
    assert "rank  job" in answer.stdout  # the others' leaderboard
    assert "job 2 failed: diverged: " in answer.stderr
    assert "1 of 2 jobs failed; `gridyard retry 1` tries them again" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "sweep 1: 1 failed: 1 diverged" in folder.gridyard("status", "1").stdout
    assert folder.json("status", "1")["reasons"] == {"diverged": 1}
    assert "1 failed: 1 diverged; `gridyard show JOB` tells why" in folder.gridyard("leaderboard", "1").stderr
    shown = folder.gridyard("show", "2").stdout
    assert "attempt  outcome   started" in shown
    assert "\nattempt 1, diverged: train_loss was not finite in epoch" in shown


def test_a_run_trains_its_own_sweep_before_an_older_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "second", grid="task: iris\ngrid: {lr: [0.003, 0.01]}\nepochs: 1\n")
    older = ["--set", "epochs=100000", "--set", "priority=5"]  # it would take hours, and has priority
    assert folder.gridyard("submit", "grid.yaml", *older).returncode == 0
    answer = folder.gridyard("run", "grid.yaml", "--workers", "1")
    assert answer.returncode == 0, answer.stderr
    assert "2/2 jobs, 0 running, 0 failed" in answer.stderr
    assert folder.json("status", "1")["jobs"]["succeeded"] == 0


def test_a_run_whose_reader_goes_trains_to_its_end_and_does_not_fail(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "head", grid="task: iris\nepochs: 1\n")
    running = folder.start("run", "grid.yaml", "--workers", "1")
    assert running.stdout is not None
    assert running.stdout.readline() == "sweep 1: 1 job of iris\n"
    running.stdout.close()
    assert running.stderr is not None
    errors = running.stderr.read()
    running.stderr.close()
    assert running.wait(60) == 0, errors
    assert "1/1 jobs, 0 running, 0 failed" in errors
    assert "Traceback" not in errors
