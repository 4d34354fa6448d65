"""A record that the product knows nothing of: triggers note every change of a job, and who made it.

On PostgreSQL the writer is the name of its session, which the crew gives each process it starts. SQLite knows no
sessions: there the attempt that a model and a history are of tells whose result it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text

WATCHED = ("state", "attempt", "worker", "epoch", "score", "metrics", "best_epoch", "epochs", "finished_at")

TABLES = {
    "chaos_jobs": "at {float}, writer TEXT, job BIGINT, old_state TEXT, state TEXT, attempt INT,"
    " old_worker TEXT, worker TEXT, epoch INT, result TEXT",
    "chaos_models": "at {float}, writer TEXT, job BIGINT, attempt INT, sha256 TEXT",
    "chaos_epochs": "at {float}, writer TEXT, job BIGINT, attempt INT, first_epoch INT, last_epoch INT",
}
# event and table watched -> what is noted of it
JOB = (
    "INSERT INTO chaos_jobs (at, writer, job, old_state, state, attempt, old_worker, worker, epoch, result)"
    " VALUES ({now}, {writer}, NEW.id, OLD.state, NEW.state, NEW.attempt, OLD.worker, NEW.worker, NEW.epoch,"
    " {array}(NEW.score, NEW.metrics, NEW.best_epoch, NEW.epochs){as_text});"
)
MODEL = (
    "INSERT INTO chaos_models (at, writer, job, attempt, sha256)"
    " VALUES ({now}, {writer}, NEW.job_id, NEW.attempt, NEW.sha256);"
)
EPOCHS = (
    "INSERT INTO chaos_epochs (at, writer, job, attempt, first_epoch, last_epoch)"
    " VALUES ({now}, {writer}, NEW.job_id, NEW.attempt, NEW.first_epoch, NEW.last_epoch);"
)
GONE = (
    "INSERT INTO chaos_jobs (at, writer, job, old_state, state, attempt, old_worker, epoch)"
    " VALUES ({now}, {writer}, OLD.id, OLD.state, 'deleted', OLD.attempt, OLD.worker, OLD.epoch);"
)
TRIGGERS = {
    "chaos_job": ("UPDATE ON jobs", JOB),
    "chaos_job_gone": ("DELETE ON jobs", GONE),
    "chaos_model": ("INSERT ON models", MODEL),
    "chaos_model_changed": ("UPDATE ON models", MODEL),
    "chaos_history": ("INSERT ON histories", EPOCHS),
}
WORDS = {
    "postgresql": {
        "float": "DOUBLE PRECISION",
        "now": "extract(epoch FROM clock_timestamp())",
        "writer": "current_setting('application_name')",
        "array": "jsonb_build_array",
        "as_text": "::text",
    },
    "sqlite": {
        "float": "REAL",
        "now": "(julianday('now') - 2440587.5) * 86400.0",
        "writer": "NULL",
        "array": "json_array",
        "as_text": "",
    },
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A job's row before and after one statement."""

    at: float  # seconds since the epoch
    writer: str | None  # "worker-2/5": the fifth process in the second place
    job: int
    old_state: str
    state: str
    attempt: int
    old_worker: str | None  # who held it
    worker: str | None
    epoch: int
    result: str | None  # score, metrics, best epoch, epochs


class Records:
    """The yard's database, read and watched by SQL alone."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.kind = parsed.get_backend_name()
        self._engine: Engine = create_engine(parsed, pool_pre_ping=True)
        if self.kind == "sqlite":

            @event.listens_for(self._engine, "connect")
            def patient(connection: Any, _: Any) -> None:
                connection.execute("PRAGMA busy_timeout = 30000")

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            yield connection

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """What a statement finds.

        Raises:
            sqlalchemy.exc.OperationalError: the database is away.
        """
        with self._connected() as connection:
            return [dict(row) for row in connection.execute(text(statement), values).mappings()]

    def watch(self) -> None:
        """From now on, every change is noted."""
        words = WORDS[self.kind]
        with self._connected() as connection:
            for name, columns in TABLES.items():
                key = "id BIGSERIAL PRIMARY KEY" if self.kind == "postgresql" else "id INTEGER PRIMARY KEY"
                connection.exec_driver_sql(f"CREATE TABLE {name} ({key}, {columns.format(**words)})")
            for name, (when, what) in TRIGGERS.items():
                for statement in self._trigger(name, when, what.format(**words)):
                    connection.exec_driver_sql(statement)

    def _trigger(self, name: str, when: str, what: str) -> list[str]:
        different = "IS DISTINCT FROM" if self.kind == "postgresql" else "IS NOT"
        changed = " OR ".join(f"OLD.{column} {different} NEW.{column}" for column in WATCHED)
        only = f"WHEN ({changed})" if name == "chaos_job" else ""
        if self.kind == "sqlite":
            return [f"CREATE TRIGGER {name} AFTER {when} FOR EACH ROW {only} BEGIN {what} END"]
        body = f"BEGIN {what} RETURN NULL; END"
        return [
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
            f"CREATE TRIGGER {name} AFTER {when} FOR EACH ROW {only} EXECUTE FUNCTION {name}()",
        ]

    def changes(self) -> list[Change]:
        """All that happened to jobs, in order."""
        columns = ", ".join(Change.__dataclass_fields__)
        return [Change(**row) for row in self.rows(f"SELECT {columns} FROM chaos_jobs ORDER BY id")]
