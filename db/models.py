"""The tables. The database refuses nonsense: every rule of `jobs.states` that can be a constraint is one."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    false,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from db.clock import Moment
from jobs.states import FINAL, RETRIED, FailureReason, JobState, SweepState

# SQLite numbers rows by itself only in a column of exactly the type INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")
Document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _one_of(column: str, values: Any) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


def _sorted_final() -> list[JobState]:
    return [state for state in JobState if state in FINAL]


def literal(state: JobState | SweepState) -> ColumnElement[str]:
    """A state as a constant in the SQL text: planners take a partial index only when they see its condition."""
    return literal_column(f"'{state}'", Text)


class Base(DeclarativeBase):
    # Named constraints: alembic can change them, and an error message tells which one was broken.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Sweep(Base):
    """One submitted search."""

    __tablename__ = "sweeps"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uid: Mapped[str] = mapped_column(Text, unique=True)  # names it over all databases, in checkpoints
    name: Mapped[str] = mapped_column(Text)
    task: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)  # SweepState
    queue: Mapped[str] = mapped_column(Text)  # the workers that may claim its jobs
    priority: Mapped[int] = mapped_column(Integer)  # higher is claimed first
    spec: Mapped[dict[str, Any]] = mapped_column(Document)  # the SweepSpec
    spec_hash: Mapped[str] = mapped_column(Text)  # equal for equal specs: `submit --once`
    metric: Mapped[str] = mapped_column(Text)  # the objective's
    mode: Mapped[str] = mapped_column(Text)  # "max" or "min"
    retries: Mapped[int] = mapped_column(Integer)  # further attempts after the first failed one
    retry_on: Mapped[list[str]] = mapped_column(  # FailureReasons after which there is another attempt
        Document, default=sorted(RETRIED), server_default=json.dumps(["crashed", "lost", "error"])
    )
    max_running: Mapped[int | None] = mapped_column(Integer)  # jobs that run at once; NULL: no limit
    halting: Mapped[bool] = mapped_column(default=False, server_default=false())  # paused: what runs stops as well
    epochs: Mapped[int] = mapped_column(
        Integer, default=1, server_default="1"
    )  # a job trains at most; the spec's, or more
    extending: Mapped[dict[str, Any] | None] = mapped_column(
        Document
    )  # what an extension has still to do: db.extension
    total: Mapped[int] = mapped_column(BigInteger)  # jobs it has when it is open, or wholly extended
    created_at: Mapped[datetime] = mapped_column(Moment)
    touched_at: Mapped[datetime] = mapped_column(Moment)  # last sign of its submitter while it is being submitted
    finished_at: Mapped[datetime | None] = mapped_column(Moment)  # all jobs final, or cancelled

    __table_args__ = (
        CheckConstraint(_one_of("state", SweepState), name="state"),
        CheckConstraint(_one_of("mode", ("max", "min")), name="mode"),
        CheckConstraint("retries >= 0", name="retries"),
        # The claim looks at open sweeps only; old ones cost nothing.
        Index(
            "ix_sweeps_open",
            "queue",
            "priority",
            "id",
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
        Index("ix_sweeps_spec_hash", "spec_hash"),
        # Few rows, and every leaderboard asks for them.
        Index(
            "ix_sweeps_deleting",
            "id",
            postgresql_where=text("state = 'deleting'"),
            sqlite_where=text("state = 'deleting'"),
        ),
        {"sqlite_autoincrement": True},
    )


class Job(Base):
    """One cell with one seed: what is claimed, retried and ranked."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"))
    cell: Mapped[int] = mapped_column(Integer)  # number of the cell in the sweep's fixed order, from 0
    seed: Mapped[int] = mapped_column(BigInteger)
    # Jobs of one sweep and one pack number may train together: their parameters differ only in numbers of their rows.
    pack: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    params: Mapped[dict[str, Any]] = mapped_column(
        Document
    )  # the cell's own values; the rest is in sweep.spec["fixed"]
    task: Mapped[str] = mapped_column(Text)  # the sweep's, here for the leaderboard of a task
    metric: Mapped[str] = mapped_column(Text)  # the sweep's objective, here for the same reason
    state: Mapped[str] = mapped_column(Text)  # JobState
    attempt: Mapped[int] = mapped_column(Integer, default=0)  # number of claims; fences every write of a worker
    failures: Mapped[int] = mapped_column(Integer, default=0)  # attempts that failed; a job given back has not failed
    lost: Mapped[int] = mapped_column(Integer, default=0, server_default="0")  # workers that went silent with it
    due_at: Mapped[datetime | None] = mapped_column(Moment)  # while waiting
    worker: Mapped[str | None] = mapped_column(Text)  # while running
    slot: Mapped[int | None] = mapped_column(Integer)  # of the worker, from 0; while running
    lease_expires_at: Mapped[datetime | None] = mapped_column(Moment)  # while running
    epoch: Mapped[int] = mapped_column(Integer, default=0)  # last reported one
    reason: Mapped[str | None] = mapped_column(Text)  # FailureReason of the last failure
    error: Mapped[str | None] = mapped_column(Text)  # its message
    finished_at: Mapped[datetime | None] = mapped_column(Moment)  # while final, and while it has a result
    score: Mapped[float | None] = mapped_column()  # the objective's metric at the best epoch; NULL: not finite
    # Lower is better, whatever the mode; not finite: the largest float. So one ascending index serves every ranking.
    rank_key: Mapped[float | None] = mapped_column()
    metrics: Mapped[dict[str, Any] | None] = mapped_column(Document)  # of the best epoch; non-finite values: null
    best_epoch: Mapped[int | None] = mapped_column(Integer)
    epochs: Mapped[int | None] = mapped_column(Integer)  # trained
    until: Mapped[int | None] = mapped_column(
        Integer
    )  # epochs it was to train at most; NULL: as its sweep was submitted
    seconds: Mapped[float | None] = mapped_column()  # of training, over all attempts

    __table_args__ = (
        UniqueConstraint("sweep_id", "cell", "seed"),
        CheckConstraint(_one_of("state", JobState), name="state"),
        CheckConstraint(f"reason IS NULL OR {_one_of('reason', FailureReason)}", name="reason"),
        # A job that is to train more epochs keeps its result, and its place on the leaderboard, until it has a new one.
        CheckConstraint(
            f"(finished_at IS NOT NULL) = ({_one_of('state', _sorted_final())} OR rank_key IS NOT NULL)", name="final"
        ),
        CheckConstraint("(worker IS NOT NULL) = (state = 'running')", name="worker"),
        CheckConstraint("(lease_expires_at IS NOT NULL) = (state = 'running')", name="lease"),
        CheckConstraint("(due_at IS NOT NULL) = (state = 'waiting')", name="due"),
        CheckConstraint("state <> 'succeeded' OR rank_key IS NOT NULL", name="ranked"),
        CheckConstraint("state <> 'failed' OR reason IS NOT NULL", name="failed"),
        CheckConstraint("attempt >= 0 AND failures >= 0 AND failures <= attempt", name="attempt"),
        *(
            Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))
            for name, columns, where in (
                ("ix_jobs_waiting", ("due_at",), "state = 'waiting'"),
                # Few rows. The lease itself is not indexed: renewing it would then rewrite the index (queue.md, 5.2).
                ("ix_jobs_running", ("worker", "id"), "state = 'running'"),
                ("ix_jobs_failed", ("sweep_id", "reason"), "state = 'failed'"),
                ("ix_jobs_rank_sweep", ("sweep_id", "rank_key", "id"), "rank_key IS NOT NULL"),
                ("ix_jobs_rank_task", ("task", "metric", "rank_key", "id"), "rank_key IS NOT NULL"),
                ("ix_jobs_rank_all", ("rank_key", "id"), "rank_key IS NOT NULL"),
            )
        ),
        # The claim: a sweep's first ready job, and those that may train with it; counts per state.
        Index("ix_jobs_sweep_state_pack", "sweep_id", "state", "pack", "id"),
        {
            "postgresql_with": {"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.01},  # keeps heartbeats HOT
            "sqlite_autoincrement": True,  # an id names files in the store: it is never given out again
        },
    )


class Count(Base):
    """How many jobs of a sweep are in a state: the sum over the parts. Kept by triggers and by `db.counts.add`.

    Every session of PostgreSQL counts in a part of its own, for one shared row would make claims wait for each other.
    """

    __tablename__ = "counts"

    # No foreign key: a new part would lock the sweep's row, against whoever holds it and waits for the job.
    sweep_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(Text, primary_key=True)  # JobState
    part: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # process id, or 0: no session's
    number: Mapped[int] = mapped_column(BigInteger)  # of jobs; negative where a session took more than it gave

    __table_args__ = (
        # Few rows, that wait to be gathered in part 0.
        Index("ix_counts_parts", "part", postgresql_where=text("part <> 0"), sqlite_where=text("part <> 0")),
        {"postgresql_with": {"fillfactor": 50}},  # room for the versions of rows that change with each claim
    )


class Attempt(Base):
    """One try of a job by one worker: the job's story."""

    __tablename__ = "attempts"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    worker: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    # succeeded, cancelled, given back, preempted (its worker stopped), or a FailureReason; NULL while it runs
    outcome: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)  # message and traceback
    epoch: Mapped[int | None] = mapped_column(Integer)  # last one reported; NULL: none, or it runs
    resumed_from: Mapped[int | None] = mapped_column(Integer)  # epoch of the checkpoint it started from
    environment: Mapped[dict[str, Any] | None] = mapped_column(Document)  # device, versions, data fingerprint, …


class History(Base):
    """Epochs of a job, some at a time: a row per flush while it trains, one row for all when it has finished."""

    __tablename__ = "histories"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    first_epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    last_epoch: Mapped[int] = mapped_column(Integer)
    names: Mapped[list[str]] = mapped_column(Document)  # of the columns: "epoch", "seconds", "val_loss", …
    content: Mapped[bytes] = mapped_column(LargeBinary)  # the columns; see jobs.history


class Model(Base):
    """The best model of a job: its file when it is small, else where the file lies in the store."""

    __tablename__ = "models"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    content: Mapped[bytes | None] = mapped_column(LargeBinary)  # the safetensors file
    path: Mapped[str | None] = mapped_column(Text)  # in the store; of a freed one, where it would lie
    freed_at: Mapped[datetime | None] = mapped_column(Moment)  # since then the model is gone, and its numbers are left
    samples: Mapped[list[Any] | None] = mapped_column(Document)  # texts that a language model wrote, with their prompts

    __table_args__ = (CheckConstraint("(content IS NULL) <> (path IS NULL)", name="place"),)


class Kept(Base):
    """What a job that succeeded has in the store and in its row: a model that is kept, or files that are to go.

    It is written with the result, so that whoever dies meanwhile, what is to be removed is known. `db.retention`
    """

    __tablename__ = "kept"

    job_id: Mapped[int] = mapped_column(
        Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    sweep_id: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(Integer)  # that succeeded; later ones, which may run, are none of its business
    size: Mapped[int] = mapped_column(BigInteger)  # bytes of the model
    rank_key: Mapped[float | None] = mapped_column()  # the job's; NULL: the model is freed, its files are to go
    finished_at: Mapped[datetime] = mapped_column(Moment)  # the job's
    due: Mapped[bool] = mapped_column()  # files of it are to go

    __table_args__ = (
        Index(
            "ix_kept_rank",
            *("sweep_id", "rank_key", "job_id"),
            postgresql_where=text("rank_key IS NOT NULL"),
            sqlite_where=text("rank_key IS NOT NULL"),
        ),
        Index("ix_kept_due", "sweep_id", "job_id", postgresql_where=text("due"), sqlite_where=text("due")),
    )


class Worker(Base):
    """A worker that is, or was, there."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(Text, primary_key=True)  # host:pid:nonce, unique per start
    queue: Mapped[str] = mapped_column(Text)
    slots: Mapped[int] = mapped_column(Integer)
    busy: Mapped[int] = mapped_column(Integer, default=0)  # slots that hold a job, at the last heartbeat
    started_at: Mapped[datetime] = mapped_column(Moment)
    heartbeat_at: Mapped[datetime] = mapped_column(Moment)
    stopped_at: Mapped[datetime | None] = mapped_column(Moment)
    info: Mapped[dict[str, Any] | None] = mapped_column(Document)  # host, pid, versions, devices


class Scheduler(Base):
    """A scheduler that is, or was, there."""

    __tablename__ = "schedulers"

    id: Mapped[str] = mapped_column(Text, primary_key=True)  # host:pid:nonce
    started_at: Mapped[datetime] = mapped_column(Moment)
    heartbeat_at: Mapped[datetime] = mapped_column(Moment)  # of its last round
