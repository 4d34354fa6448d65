"""All that is known of a sweep, record by record, for a file that outlives its rows."""

from collections.abc import Iterator

from db import results
from db.models import Sweep
from db.session import Database
from jobs.spec import Json

AT_ONCE = 500  # jobs of one query: no snapshot is held for long
COPIED = ("uid", "name", "task", "state", "queue", "priority", "spec", "metric", "mode", "retries", "total")


def records(database: Database, sweep: int) -> Iterator[Json]:
    """The sweep, then each of its jobs in the order of its grid, as `results.job_details` tells of it."""
    with database.reading() as session:
        found = session.get_one(Sweep, sweep)
    times = {"created_at": found.created_at, "finished_at": found.finished_at}
    yield {"kind": "sweep", "sweep": sweep, **{name: getattr(found, name) for name in COPIED}, **times}
    last = (-1, 0)  # before the first cell
    while True:
        with database.reading() as session:
            jobs = results.details_after(session, found, last, AT_ONCE)
        yield from ({"kind": "job", **vars(job)} for job in jobs)
        if len(jobs) < AT_ONCE:
            return
        last = (jobs[-1].cell, jobs[-1].seed)
