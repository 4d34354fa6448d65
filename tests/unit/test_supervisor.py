"""How the supervisor tells one death of its trainer from another."""

import os
import signal

import pytest

from jobs.states import FailureReason
from workers import supervisor, wire
from workers.supervisor import Trainer, TrainerDied

SETUP = wire.Setup(
    store="memory://yard",
    data="",
    cache="",
    tasks="",
    device="cpu",
    threads=1,
    compile=False,
    checkpoint_seconds=1.0,
    small_model_bytes=1,
)


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
    monkeypatch.setattr(supervisor.cgroup, "oom_kills", lambda: counts.pop(0))
    trainer = Trainer(SETUP, None)
    os.kill(trainer.pid, number)
    with pytest.raises(TrainerDied, match=rf"signal {number.value}, {number.name}") as death:
        trainer.receive(20.0)
    assert death.value.reason is reason
    assert ("want of memory" in str(death.value)) == (reason is FailureReason.OUT_OF_MEMORY)
    trainer.kill()
