"""The Python client: submit sweeps, wait for them, read the leaderboard, load the best model."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db import emptiness, leaderboard, migrate, results, status, workers
from db.leaderboard import Ranked, RankedCell
from db.session import Database
from db.status import SweepStatus
from db.workers import OutOfService, WorkerTrouble
from gridyard.ids import check_id, check_name
from gridyard.job import Job
from gridyard.sweep import Sweep
from jobs import catalogue, data, settings
from jobs.catalogue import Task
from jobs.errors import GridyardError, InputError, SettingsError
from jobs.urls import masked
from scheduler import conditions
from scheduler.places import Places, Problems
from scheduler.plain import MAX_INT, plain

if TYPE_CHECKING:
    import pandas

    from gridyard.cleaning import Cleaned


def connect(db: str | None = None, broker: str | None = None, store: str | None = None) -> "Yard":
    """The yard at these URLs; each defaults to its setting, else to the embedded one.

    An empty database gets its tables.

    Raises:
        InputError: a URL or setting is wrong.
        DatabaseError: the database is away, or needs `gridyard db upgrade`.
    """
    given = {"db": db, "broker": broker, "store": store}
    return Yard({name: value for name, value in given.items() if value is not None})


class Yard:
    """A database of sweeps, and the broker and store beside it."""

    def __init__(self, overrides: Mapping[str, str], *, make: bool = True) -> None:
        """
        Args:
            make: an empty database gets its tables.

        Raises:
            InputError: as `connect`; or the database has no tables, and gets none.
            DatabaseError: as `connect`.
        """
        self.overrides = overrides  # settings that were given in place of the environment's
        self.settings = settings.load(**overrides)
        self.database = Database(self.settings.db_url)
        try:
            migrate.prepare(self.database, make=make)
        except GridyardError:
            self.database.close()  # nobody else can
            raise

    def submit(
        self,
        file: str | PathLike[str] | None = None,
        *,
        sets: Sequence[str] = (),
        once: bool = False,
        fetch: bool = False,
        progress: Callable[[int, int], None] | None = None,
        **keys: Any,
    ) -> Sweep:
        """Submit a sweep: a sweep file, or its keys such as `task="iris", grid={"lr": [0.01, 0.1]}, seeds=3`.

        Args:
            sets: changes to the file, each "key=value".
            once: return the first sweep with the same content, if there is one, instead of making another.
            fetch: first the data sets that its task needs and this machine lacks.
            progress: called with the number of jobs stored so far, and of all.

        Raises:
            SweepFileError: it is wrong; nothing is stored.
            SettingsError: the store has a URL that nothing here can reach; nothing is stored.
            DataMissing: a data set could not be fetched; nothing is stored.
        """
        from gridyard import local
        from jobs.store import lacks
        from scheduler import submit, sweep_file

        if (file is None) == (not keys):
            raise InputError("give a sweep file, or the keys of a sweep such as task= and grid=")
        if why := lacks(self.settings.store_url):
            raise SettingsError(f"GRIDYARD_STORE = {masked(self.settings.store_url)}: {why}")
        with self.reading():
            spec = sweep_file.read(Path(file), sets) if file is not None else sweep_file.parse(keys, "the sweep")
        if fetch:
            local.fetch_data(spec.task)
        submitted = submit.submit(self.database, spec, once=once, progress=progress)
        if submitted.new:
            self.ring(spec.queue, submitted.jobs)
        return Sweep(self, submitted.sweep, new=submitted.new)

    def reading(self) -> AbstractContextManager[None]:
        """Until the block ends, the files that jobs name are read only where this yard's settings allow it."""
        return data.reading(self.settings.readable)

    def ring(self, queue: str, jobs: int) -> None:
        """Wake as many idle slots of a queue as there are jobs for; nothing is lost when no bell is heard."""
        if not self.settings.broker:
            return
        from workers import bell

        with self.database.reading() as session:
            idle = workers.idle_slots(session).get(queue, 0)
        bell.ring(self.settings, queue, min(idle, jobs))

    def sweep(self, sweep: int) -> Sweep:
        """The sweep of this id.

        Raises:
            InputError: this is no id.
            NotFound: there is none.
        """
        found = Sweep(self, check_id("sweep", sweep))
        found.status()
        return found

    def sweeps(self, limit: int | None = 20) -> list[SweepStatus]:
        """Where each sweep stands, newest first."""
        with self.database.reading() as session:
            return status.sweeps(session, limit=limit)

    def out_of_service(self) -> list[OutOfService]:
        """The slots of living workers that take no more jobs, such as those of a GPU that is gone."""
        with self.database.reading() as session:
            return workers.out_of_service(session)

    def troubles(self) -> list[WorkerTrouble]:
        """What goes wrong in living workers, such as ends of jobs that the database does not take."""
        with self.database.reading() as session:
            return workers.troubles(session)

    def clean(self, *, yes: bool = False) -> "Cleaned":
        """What could be freed, by kind: checkpoints, models, orphans, cache, spool; with `yes`, free it.

        Raises:
            StoreError: the store cannot be listed, or a file cannot be removed.
        """
        from gridyard import cleaning

        return cleaning.clean(self, yes=yes)

    def job(self, job: int) -> Job:
        """The job of this id.

        Raises:
            InputError: this is no id.
            NotFound: there is none.
        """
        checked = check_id("job", job)
        with self.database.reading() as session:
            results.check_job(session, checked)
        return Job(self, checked)

    def leaderboard(self, top: int | None = None, *, by: str = "job", **scope: Any) -> "pandas.DataFrame":
        """The leaderboard as a table, best first; arguments and errors as `ranked`. Printed, it hides no column."""
        from gridyard.board import Board

        return Board.of(self.ranked(top, by=by, **scope))

    def ranked(
        self,
        top: int | None = None,
        *,
        by: str = "job",
        sweep: int | None = None,
        task: str | None = None,
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Sequence[Ranked] | Sequence[RankedCell]:
        """The best jobs, or cells, of a sweep, of a task over all sweeps, or of everything; best first.

        Args:
            top: at most so many; None: all.
            by: "job" or "cell".
            metric: of a task's leaderboard; default: the task's own objective.
            where: values of parameters, such as {"lr": 0.01, "scheduler.name": "step"}.

        Raises:
            InputError: there is no such sweep, task or parameter, no job can have such a value, or an argument is of
                another kind.
        """
        if by not in ("job", "cell"):
            raise InputError(f"a leaderboard is by job or by cell, not by {by!r}")
        if top is not None and not (isinstance(top, int) and 1 <= top <= MAX_INT):
            raise InputError(f"top is a whole number from 1 to {MAX_INT}, not {top!r}")
        sweep = None if sweep is None else check_id("sweep", sweep)
        check_name("task", task)
        check_name("metric", metric)
        where = _plain(where or {})
        rank = leaderboard.by_cell if by == "cell" else leaderboard.top
        with self.database.reading() as session:
            found = rank(session, sweep=sweep, task=task, metric=metric, where=where, limit=top)
        if not found and where:
            conditions.check(where, self._tasks(sweep, task))
        return found

    def compare(self, jobs: Sequence[int]) -> "pandas.DataFrame":
        """Jobs side by side, one per row: the parameters that differ, seed, metrics at the best epoch, seconds.

        Raises:
            NotFound: there is no such job.
            InputError: they are fewer than two, or one is given twice.
        """
        import pandas

        from gridyard.report import compare

        return pandas.DataFrame(compare.flat(compare.compare(self, [check_id("job", job) for job in jobs])))

    def why_empty(
        self,
        *,
        sweep: int | None = None,
        task: str | None = None,
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> str:
        """Why `ranked` has found nothing with these arguments, in a sentence."""
        with self.database.reading() as session:
            return emptiness.why_empty(session, sweep=sweep, task=task, metric=metric, where=_plain(where or {}))

    def _tasks(self, sweep: int | None, task: str | None) -> list[Task]:
        """The tasks whose jobs such a leaderboard ranks, but for a user's own that this machine does not have."""
        if sweep is not None:
            task = self.sweep(sweep).status().task
        if task is None:
            return list(catalogue.tasks().values())
        known = catalogue.get(task)
        return [known] if known else []


def _plain(where: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a filter, held to the same rules as those of a sweep."""
    problems = Problems("where", Places())
    values: Mapping[str, Any] = plain(where, problems)
    if found := problems.in_order():
        raise InputError("\n".join(f"where {problem}" for problem in found))
    return values
