"""A yard whose jobs were trained in this process: no worker, no waiting."""

from pathlib import Path
from typing import Any

from db import claiming, ending
from gridyard.client import Yard
from gridyard.job import Job
from jobs.engine import Options, train
from jobs.spec import Assignment, TrainResult
from jobs.store import Store
from tests.training import go_on


def yard_at(home: Path) -> Yard:
    """A yard with a database and a store of its own."""
    return Yard({"db": f"sqlite:///{home}/gridyard.db", "store": str(home / "store")})


def trained(yard: Yard, **keys: Any) -> Job:
    """The first job of a sweep of these keys, trained on the CPU."""
    yard.submit(**keys)
    with yard.database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "a test", lease_seconds=60)
    assignment = Assignment(spec=claim.spec, attempt=claim.attempt)
    store = Store(yard.settings.store_url)
    (result,) = train([assignment], store=store, options=Options(device="cpu"), report=go_on)
    assert isinstance(result, TrainResult), result
    with yard.database.writing() as session:
        assert ending.finish(session, [(claim, result)])
    return yard.job(claim.job)
