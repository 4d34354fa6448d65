"""How the supervisor tells one death of its trainer from another."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jobs import cgroup
from jobs.errors import SettingsError
from jobs.states import FailureReason
from workers import trainer, wire
from workers.supervisor import Trainer, TrainerDied

SETUP = wire.Setup(
    store="memory://yard",
    data="",
    cache="",
    files="*",
    tasks="",
    device="cpu",
    threads=1,
    compile=False,
    checkpoint_seconds=1.0,
    small_model_bytes=1,
)


@pytest.mark.parametrize(("own", "order"), [(None, "PCI_BUS_ID"), ("FASTEST_FIRST", "FASTEST_FIRST")])
def test_a_gpu_by_number_is_the_one_that_nvidia_smi_is_asked_about(
    monkeypatch: pytest.MonkeyPatch, own: str | None, order: str
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if own:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", own)
    seen: list[str] = []

    def start(command: object, env: dict[str, str], **_: object) -> None:
        seen.extend((env["CUDA_VISIBLE_DEVICES"], env["CUDA_DEVICE_ORDER"]))
        raise InterruptedError

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(InterruptedError):
        Trainer(SETUP, "1")
    assert seen == ["1", order]


@pytest.mark.parametrize(
    ("number", "kills", "reason"),
    [
        (signal.SIGKILL, (3, 4), FailureReason.OUT_OF_MEMORY),
        (signal.SIGKILL, (3, 3), FailureReason.CRASHED),
        (signal.SIGKILL, (None, None), FailureReason.CRASHED),
        (signal.SIGSEGV, (3, 4), FailureReason.CRASHED),  # another process of the group was killed
    ],
)
def test_a_kill_is_the_kernels_if_it_has_counted_one(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, kills: tuple[int | None, ...], reason: FailureReason
) -> None:
    counts = list(kills)
    monkeypatch.setattr(cgroup, "oom_kills", lambda: counts.pop(0))
    started = Trainer(SETUP, None)
    os.kill(started.pid, number)
    with pytest.raises(TrainerDied, match=rf"signal {number.value}, {number.name}") as death:
        started.receive(20.0)
    assert death.value.reason is reason
    assert ("want of memory" in str(death.value)) == (reason is FailureReason.OUT_OF_MEMORY)
    started.kill()
    assert death.value.by_chance  # another one may start well


@pytest.mark.parametrize(("code", "reason"), [(12, FailureReason.OUT_OF_MEMORY), (1, FailureReason.CRASHED)])
def test_a_trainer_that_ends_by_itself_says_whether_it_found_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: FailureReason
) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho its reason >&2\nexit {code}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    started = Trainer(SETUP, None)
    with pytest.raises(TrainerDied, match=rf"\(exit code {code}\); its last line: its reason") as death:
        started.receive(20.0)
    assert (death.value.reason, death.value.by_chance) == (reason, code == wire.OUT_OF_MEMORY)
    started.kill()


def test_the_exit_code_of_a_trainer_follows_from_its_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert trainer._told(torch.OutOfMemoryError("CUDA out of memory")) == wire.OUT_OF_MEMORY
    assert trainer._told(KeyError("x")) == 1
    assert "KeyError: 'x'" in capfd.readouterr().err
    assert trainer._told(SettingsError("device 'tpu': give another one")) == 1
    assert capfd.readouterr().err == "device 'tpu': give another one\n"
