"""The Python client: submit sweeps, wait for them, read the leaderboard, load the best model."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db import emptiness, leaderboard, migrate, queue, results, status, workers
from db.leaderboard import Ranked, RankedCell
from db.results import JobDetails
from db.session import Database
from db.status import FailedJob, SweepStatus
from jobs import catalogue, settings
from jobs.catalogue import Task
from jobs.errors import InputError, NotFound, StoreError
from jobs.spec import JobSpec, Json
from scheduler import conditions
from scheduler.places import Places, Problems
from scheduler.plain import MAX_INT, plain

if TYPE_CHECKING:
    import pandas

    from gridyard.export import Exported
    from gridyard.repeat import Repeated
    from jobs.problem import Model


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

    def __init__(self, overrides: Mapping[str, str]) -> None:
        self.overrides = overrides  # settings that were given in place of the environment's
        self.settings = settings.load(**overrides)
        self.database = Database(self.settings.db_url)
        migrate.prepare(self.database)

    def submit(
        self,
        file: str | PathLike[str] | None = None,
        *,
        sets: Sequence[str] = (),
        once: bool = False,
        progress: Callable[[int, int], None] | None = None,
        **keys: Any,
    ) -> "Sweep":
        """Submit a sweep: a sweep file, or its keys such as `task="iris", grid={"lr": [0.01, 0.1]}, seeds=3`.

        Args:
            sets: changes to the file, each "key=value".
            once: return the first sweep with the same content, if there is one, instead of making another.
            progress: called with the number of jobs stored so far, and of all.

        Raises:
            SweepFileError: it is wrong; nothing is stored.
        """
        from scheduler import submit, sweep_file

        if (file is None) == (not keys):
            raise InputError("give a sweep file, or the keys of a sweep such as task= and grid=")
        spec = sweep_file.read(Path(file), sets) if file is not None else sweep_file.parse(keys, "the sweep")
        submitted = submit.submit(self.database, spec, once=once, progress=progress)
        if submitted.new:
            self.ring(spec.queue, submitted.jobs)
        return Sweep(self, submitted.sweep, new=submitted.new)

    def ring(self, queue: str, jobs: int) -> None:
        """Wake as many idle slots of a queue as there are jobs for; nothing is lost when no bell is heard."""
        if not self.settings.broker:
            return
        from workers import bell

        with self.database.reading() as session:
            idle = workers.idle_slots(session).get(queue, 0)
        bell.ring(self.settings, queue, min(idle, jobs))

    def sweep(self, sweep: int) -> "Sweep":
        """The sweep of this id.

        Raises:
            NotFound: there is none.
        """
        _check_id("sweep", sweep)
        found = Sweep(self, sweep)
        found.status()
        return found

    def sweeps(self, limit: int | None = 20) -> list[SweepStatus]:
        """Where each sweep stands, newest first."""
        with self.database.reading() as session:
            return status.sweeps(session, limit=limit)

    def job(self, job: int) -> "Job":
        """The job of this id.

        Raises:
            NotFound: there is none.
        """
        _check_id("job", job)
        found = Job(self, job)
        found.details()
        return found

    def leaderboard(self, top: int | None = None, *, by: str = "job", **scope: Any) -> "pandas.DataFrame":
        """The leaderboard as a table, best first; arguments and errors as `ranked`."""
        import pandas

        from gridyard import tables

        return pandas.DataFrame(tables.flat(self.ranked(top, by=by, **scope)))

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
            InputError: there is no such sweep, task or parameter, or no job can have such a value.
        """
        if by not in ("job", "cell"):
            raise InputError(f"a leaderboard is by job or by cell, not by {by!r}")
        if top is not None and not 1 <= top <= MAX_INT:
            raise InputError(f"top is a whole number from 1 to {MAX_INT}, not {top}")
        if sweep is not None:
            _check_id("sweep", sweep)
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

        return pandas.DataFrame(compare.flat(compare.compare(self, jobs)))

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


def _check_id(kind: str, number: int) -> None:
    if abs(number) > MAX_INT:  # the database's driver would fail on it
        raise NotFound(f"there is no {kind} {number}; an id is a whole number of at most {MAX_INT}")


def _plain(where: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a filter, held to the same rules as those of a sweep."""
    problems = Problems("where", Places())
    values: Mapping[str, Any] = plain(where, problems)
    if found := problems.in_order():
        raise InputError("\n".join(f"where {problem}" for problem in found))
    return values


class Sweep:
    """A submitted sweep."""

    def __init__(self, yard: Yard, sweep: int, new: bool = False) -> None:
        self.yard = yard
        self.id = sweep
        self.new = new  # this submit made it

    def __repr__(self) -> str:
        return f"<Sweep {self.id}>"

    def status(self) -> SweepStatus:
        """Where it stands: state, jobs per state, best score so far."""
        with self.yard.database.reading() as session:
            return status.sweep_status(session, self.id)

    def wait(self, timeout: float | None = None, *, slots: int | None = None) -> SweepStatus:
        """Wait until every job is final, with a progress bar; failed jobs are counted in the status, not raised.

        Without a broker and without a living worker, this process starts a local one, as `gridyard run` does.

        Args:
            timeout: seconds.
            slots: of the local worker; None: as many as GPUs or cores; 0: start none.

        Raises:
            TimeoutError: some jobs are not final yet.
        """
        from gridyard import local, progress

        deadline = None if timeout is None else time.monotonic() + timeout
        if slots == 0 or not local.is_needed(self):
            return progress.follow(self.status, deadline=deadline)
        with local.workers(self, slots) as tend:
            return progress.follow(self.status, tend=tend, deadline=deadline)

    def leaderboard(
        self, top: int | None = None, *, by: str = "job", where: Mapping[str, Any] | None = None
    ) -> "pandas.DataFrame":
        """Its best jobs, or cells, as a table, best first; see `Yard.ranked`."""
        return self.yard.leaderboard(top, by=by, sweep=self.id, where=where)

    def ranked(
        self, top: int | None = None, *, by: str = "job", where: Mapping[str, Any] | None = None
    ) -> Sequence[Ranked] | Sequence[RankedCell]:
        """Its best jobs, or cells, best first; see `Yard.ranked`."""
        return self.yard.ranked(top, by=by, sweep=self.id, where=where)

    def best(self) -> "Job":
        """Its best job so far.

        Raises:
            NotFound: no job has succeeded yet.
        """
        job = self.status().best_job
        if job is None:
            raise NotFound(f"no job of sweep {self.id} has succeeded yet")
        return Job(self.yard, job)

    def failed(self, limit: int = 10) -> list[FailedJob]:
        """Its first failed jobs, with their reasons."""
        with self.yard.database.reading() as session:
            return status.failed_jobs(session, self.id, limit=limit)

    def cancel(self) -> int:
        """Stop it; the number of jobs that will not be finished."""
        return self._change(queue.cancel_sweep)

    def pause(self) -> bool:
        """Let running jobs finish and start no more, until it is resumed; False when it is not open."""
        with self.yard.database.writing() as session:
            return queue.pause_sweep(session, self.id)

    def resume(self) -> int:
        """Carry a paused or cancelled sweep on; the number of cancelled jobs that are ready again."""
        return self._change(queue.resume_sweep)

    def retry(self) -> int:
        """Try its failed jobs again; their number."""
        return self._change(queue.retry_sweep)

    def _change(self, change: Callable[..., int]) -> int:
        found = self.status()  # says so when it is not there
        with self.yard.database.writing() as session:
            changed = change(session, self.id)
        self.yard.ring(found.queue, changed)
        return changed


class Job:
    """One cell with one seed."""

    def __init__(self, yard: Yard, job: int) -> None:
        self.yard = yard
        self.id = job

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def details(self) -> JobDetails:
        """Parameters, state, attempts, history, environment, error, artifacts."""
        with self.yard.database.reading() as session:
            return results.job_details(session, self.id)

    def history(self) -> "pandas.DataFrame":
        """One row per epoch."""
        import pandas

        return pandas.DataFrame(self.details().history)

    def load(self) -> "Model":
        """Its best model in eval mode: raw feature rows (a row per sample) to logits of its `classes`, or to values.

        Preprocessing is inside. Rows are a NumPy array or a tensor of any float type.

        Raises:
            NotFound: the job has not succeeded.
            StoreError: the file is away, or is not the one that was recorded.
        """
        from jobs import artifact

        return artifact.load(self.content())

    def predict(self, given: Any, *, top: int | None = None, **writing: Any) -> list[Json]:
        """What its best model makes of new inputs: a list of objects, as `gridyard predict --json` writes them.

        Args:
            given: a table as a file, a DataFrame, or a row or rows as {column: value}; picture files and folders; or
                a prompt, or several.
            top: so many likeliest classes; None: all.
            writing: of a language model: seed, temperature, top_k, top_p, repetition_penalty, max_length.

        Raises:
            InputError: the input does not fit the model; a picture that cannot be read only has an `error`.
            NotFound: the job has not succeeded.
        """
        from jobs import predict

        return list(predict.predict(self.on_device(), given, top=top, writing=writing))

    def on_device(self) -> "Model":
        """As `load`, on the device of the settings."""
        from jobs import devices

        return self.load().to(devices.choose(self.yard.settings.device))

    def export(
        self, folder: str | PathLike[str], *, formats: Sequence[str] | None = None, force: bool = False
    ) -> "Exported":
        """Write its best model for use elsewhere; see `jobs.export.export`."""
        from gridyard import export

        return export.export(self, Path(folder), formats=formats, force=force)

    def report(self, path: str | PathLike[str]) -> None:
        """Write a page (.html) that opens without network; errors as `write`."""
        self.write(report=path)

    def plot(self, path: str | PathLike[str]) -> None:
        """Write its main plots as one figure (.png, .svg or .pdf); errors as `write`."""
        self.write(plot=path)

    def write(
        self, *, report: str | PathLike[str] | None = None, plot: str | PathLike[str] | None = None
    ) -> list[Path]:
        """Write a page, a figure, or both with one evaluation of the best model; the files.

        Raises:
            InputError: a path is none that can be written to, or the job has no epoch yet.
        """
        from gridyard.report import write

        return write.of_job(self, report=report, plot=plot)

    def repeat(self, tolerance: float | None = None) -> "Repeated":
        """Train it again, here, and compare every number with what was recorded; see `gridyard.repeat.repeat`."""
        from gridyard import repeat

        return repeat.repeat(self, tolerance)

    def spec(self) -> JobSpec:
        """What its trainer was given."""
        with self.yard.database.reading() as session:
            return results.job_spec(session, self.id)

    def content(self) -> bytes:
        """The safetensors file of its best model.

        Raises:
            NotFound: the job has not succeeded.
            StoreError: the file is away, or is not the one that was recorded.
        """
        with self.yard.database.reading() as session:
            best = results.best_model(session, self.id)
        content = best.content
        if content is None:
            from jobs.store import Store

            assert best.path is not None  # the database holds one or the other
            content = Store(self.yard.settings.store_url).read(best.path)
        if hashlib.sha256(content).hexdigest() != best.sha256:
            raise StoreError(f"the best model of job {self.id} is not the file that was recorded; train it again")
        return content
