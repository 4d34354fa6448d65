"""What a worker says while it holds jobs: that it lives, which renews its leases, and how far they are."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, and_, bindparam, or_, select, tuple_, update
from sqlalchemy.orm import Session

from db import fence, history
from db.clock import now
from db.fence import FENCED, fenced
from db.models import Attempt, Job, Sweep, literal
from db.rows import execute_update, table
from jobs.spec import Answer, Claim, EpochReport
from jobs.states import UNFINISHED, FailureReason, JobState, SweepState

Held = tuple[int, int]  # (job, attempt) that a worker holds

JOBS, ATTEMPTS, SWEEPS = table(Job), table(Attempt), table(Sweep)
# What the error of a lost attempt tells besides: its worker came back; its end did, when it could not count any more.
CAME_BACK, CAME_LATE = ", and came back", ", and its end came too late to count"


def renew(session: Session, worker: str, held: Collection[Held], lease_seconds: float) -> dict[Held, Answer]:
    """Renew the leases of what a worker holds, and say for each how to go on.

    Only what the worker says it holds is renewed: a claim whose answer never reached it must run out.
    """
    if not held:
        return {}
    ours = (JOBS.c.worker == worker, JOBS.c.state == literal(JobState.RUNNING), JOBS.c.id.in_({job for job, _ in held}))
    # Locked as `finish` locks them, lowest id first: a heartbeat and an end of one pack do not wait in a circle.
    locked = select(JOBS.c.id).where(*ours).order_by(JOBS.c.id).with_for_update().cte("locked")
    renewed = (
        session.connection()
        .execute(
            update(JOBS)
            .where(JOBS.c.id == locked.c.id)
            .values(lease_expires_at=now(lease_seconds))
            .returning(JOBS.c.id, JOBS.c.attempt, JOBS.c.sweep_id)
        )
        .all()
    )
    wishes = _wishes(session, {row.sweep_id for row in renewed})
    answers = dict.fromkeys(held, Answer.CLAIM_LOST)
    for row in renewed:
        if (row.id, row.attempt) in answers:
            answers[row.id, row.attempt] = wishes.get(row.sweep_id, Answer.GO_ON)
    return answers


def _wishes(session: Session, sweeps: Collection[int]) -> dict[int, Answer]:
    """How the running jobs of these sweeps are to stop, where they are to."""
    halting = and_(SWEEPS.c.state == literal(SweepState.PAUSED), SWEEPS.c.halting)
    stopping = or_(SWEEPS.c.state == literal(SweepState.CANCELLED), halting)
    found = session.connection().execute(select(SWEEPS.c.id, SWEEPS.c.halting).where(SWEEPS.c.id.in_(sweeps), stopping))
    return {row.id: Answer.GIVE_BACK if row.halting else Answer.CANCELLED for row in found}


def came_back(session: Session, worker: str, held: Collection[Held]) -> int:
    """A worker that was presumed dead lives: no job of those that were rescued from it has killed it.

    Its silence, as while the database was away or it was frozen, is then counted against none of them.

    Args:
        held: what it holds still, without a claim.

    Returns:
        The number of jobs whose losses are one less; asking again changes nothing.
    """
    of_jobs = select(JOBS.c.id).where(JOBS.c.id.in_({job for job, _ in held}))
    session.connection().execute(of_jobs.order_by(JOBS.c.id).with_for_update())  # before attempts, as all do
    here = (tuple_(ATTEMPTS.c.job_id, ATTEMPTS.c.attempt).in_(list(held)), ATTEMPTS.c.worker == worker)
    jobs = _tell(session, CAME_BACK, *here)
    counted = (JOBS.c.id.in_(jobs), JOBS.c.lost > 0, JOBS.c.state.in_(UNFINISHED))
    one_less = {"lost": JOBS.c.lost - 1, "failures": JOBS.c.failures - 1}
    return execute_update(session, update(JOBS).where(*counted).values(one_less)) if jobs else 0


def came_late(session: Session, claim: Claim) -> bool:
    """The end of an attempt was refused: where it had been taken for lost, its story tells so from now on.

    Returns:
        Whether that is new; false, too, of an end that was refused because it is recorded already.
    """
    here = (ATTEMPTS.c.job_id == claim.job, ATTEMPTS.c.attempt == claim.attempt, ATTEMPTS.c.worker == claim.worker)
    return bool(_tell(session, CAME_LATE, *here))


def _tell(session: Session, words: str, *here: ColumnElement[bool]) -> list[int]:
    """Say this, too, of those of these attempts that were lost; the jobs of which it is new.

    It is said in the error's first line, which is the one that is shown: below it stands the story of a job that was
    set aside, with the same words of earlier attempts.
    """
    found = select(ATTEMPTS.c.job_id, ATTEMPTS.c.attempt, ATTEMPTS.c.error).where(*here)
    lost = found.where(ATTEMPTS.c.outcome == FailureReason.LOST, ATTEMPTS.c.error.is_not(None))
    told = []
    for row in session.connection().execute(lost.order_by(ATTEMPTS.c.job_id, ATTEMPTS.c.attempt).with_for_update()):
        first, end, story = row.error.partition("\n")
        if words not in first:
            told.append({"of_job": row.job_id, "of_attempt": row.attempt, "told": f"{first}{words}{end}{story}"})
    if told:
        one = (ATTEMPTS.c.job_id == bindparam("of_job"), ATTEMPTS.c.attempt == bindparam("of_attempt"))
        session.connection().execute(update(ATTEMPTS).where(*one).values(error=bindparam("told")), told)
    return [one["of_job"] for one in told]


def record_epochs(session: Session, reports: Sequence[tuple[Claim, Sequence[EpochReport]]]) -> set[int]:
    """Store epochs of running jobs. Returns the jobs whose claim holds; of the others nothing is stored."""
    held = fence.lock_held(session, [claim for claim, _ in reports])
    ours = [(claim, epochs) for claim, epochs in reports if fence.key(claim) in held]
    if ours:
        reached = [fenced(*fence.key(claim)) | {"epoch": epochs[-1].epoch} for claim, epochs in ours]
        fence.change(session, FENCED, reached)
        history.add(session, ours)
    return {claim.job for claim, _ in ours}
