"""The states of a job and of a sweep, and the moves between them.

`docs/architecture.md` draws these tables; a test compares the drawing, the enums and the CHECK constraints.
"""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. Only `db` changes it, each time by one guarded UPDATE."""

    WAITING = "waiting"  # not yet due: backs off after a failure; a crash changes nothing
    READY = "ready"  # any worker of its queue may claim it; a crash changes nothing
    RUNNING = (
        "running"  # claimed: holds worker, attempt and lease; a silent worker's job is rescued when the lease ends
    )
    SUCCEEDED = "succeeded"  # final: has a score and a best model
    FAILED = "failed"  # final: carries a FailureReason and a message
    CANCELLED = "cancelled"  # final: the user did not want it any more


class FailureReason(StrEnum):
    """Why an attempt did not succeed."""

    DIVERGED = "diverged"  # the loss became NaN or infinite; trying again would give the same
    OUT_OF_MEMORY = "out_of_memory"  # of the GPU or of the machine
    ERROR = "error"  # the training raised an exception
    CRASHED = "crashed"  # the trainer process died: killed, segmentation fault
    LOST = "lost"  # too many workers went silent or died with it
    TIMEOUT = "timeout"  # longer than the sweep's time limit per job


class SweepState(StrEnum):
    """Where a sweep stands. Its jobs are claimable only while it is open."""

    SUBMITTING = "submitting"  # rows are still coming in; removed by the scheduler when its submitter went silent
    OPEN = "open"  # complete: workers may claim its jobs
    PAUSED = (
        "paused"  # nothing new is claimed until it is resumed; what runs finishes, or is given back: sweeps.halting
    )
    CANCELLED = "cancelled"  # the user stopped it; running jobs are told to stop
    FINISHED = "finished"  # every job is final
    DELETING = "deleting"  # its rows and files go; the scheduler carries on when the deleter went silent


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
UNFINISHED = frozenset(JobState) - FINAL


def standing(state: str) -> str:
    """How a job of this state stands, in words: "is running", "has failed"."""
    return f"has {state}" if state in (JobState.SUCCEEDED, JobState.FAILED) else f"is {state}"


# The reasons after which another attempt may end differently: those that a sweep retries unless it names others.
RETRIED = frozenset({FailureReason.CRASHED, FailureReason.LOST, FailureReason.ERROR})

# state -> the states it may move to, with what moves it there.
MOVES: dict[JobState, dict[JobState, str]] = {
    JobState.WAITING: {
        JobState.READY: "due",
        JobState.SUCCEEDED: "late result of a lost attempt",
        JobState.CANCELLED: "cancel",
    },
    JobState.READY: {
        JobState.RUNNING: "claim",
        JobState.SUCCEEDED: "late result of a lost attempt",
        JobState.CANCELLED: "cancel",
    },
    JobState.RUNNING: {
        JobState.SUCCEEDED: "finish",
        JobState.FAILED: "fail, no retry left",
        JobState.WAITING: "fail or rescue, retry later",
        JobState.READY: "give back, first retry, or finish with more epochs to train",
        JobState.CANCELLED: "cancel",
    },
    JobState.SUCCEEDED: {JobState.READY: "extend"},
    JobState.FAILED: {JobState.READY: "retry"},
    JobState.CANCELLED: {JobState.READY: "resume"},
}
