"""What people read is served by indexes: a million jobs cost a status nothing, and so does their removal."""

import re
from collections.abc import Callable

import pytest

from db import removal, retention, status, submission
from db.retention import Retention
from db.session import Database
from jobs.spec import Keep
from jobs.store import Store
from tests.db.test_queue_plans import plan_of, statements_of

AddSweep = Callable[..., int]

OF_COUNTS = {"sqlite": "sqlite_autoindex_counts_1", "postgresql": "pk_counts"}  # the primary key
OF_CELLS = {"sqlite": "sqlite_autoindex_jobs_1", "postgresql": "uq_jobs_sweep_id_cell_seed"}


@pytest.mark.parametrize("name", ["one", "list", "open"])
def test_a_status_counts_no_rows_and_finds_the_best_job_by_an_index(
    database: Database, add_sweep: AddSweep, name: str
) -> None:
    sweep, submitted = add_sweep(3), add_sweep(3, opened=False)

    def act() -> None:
        with database.writing() as session:
            match name:
                case "one":
                    status.sweep_status(session, sweep)
                case "list":
                    status.sweeps(session)
                case "open":
                    assert submission.open_sweep(session, submitted)

    statements = statements_of(database, act, tables=("jobs", "counts"))
    assert any("counts" in statement for statement, _ in statements)
    for statement, values in statements:
        plan = plan_of(database, statement, values)
        if "FROM counts" in statement:
            assert OF_COUNTS[database.dialect] in plan, plan
        if "FROM jobs" in statement:
            assert not re.search(r"count\(\S*\)( AS \w+)?\s+FROM jobs", statement), statement
            how_far = "min(" in statement  # the running jobs, of which there are few
            assert ("ix_jobs_sweep_state_pack" if how_far else "ix_jobs_rank_sweep") in plan, plan
        assert not re.search("SCAN (jobs|counts)", plan), plan


def test_removing_a_sweep_finds_its_jobs_in_order_and_what_hangs_on_them_by_indexes(
    database: Database, add_sweep: AddSweep
) -> None:
    sweep = add_sweep(3, opened=False)
    first, *deletes = statements_of(database, lambda: removal.remove(database, sweep))
    plan = plan_of(database, *first)
    assert OF_CELLS[database.dialect] in plan, plan
    assert not re.search("(?i)temp b-tree|sort|scan jobs", plan), plan
    assert len(deletes) >= 2
    for statement, values in deletes:
        assert not re.search("SCAN jobs", plan_of(database, statement, values))


def test_what_is_to_go_and_what_ranks_below_the_best_are_found_by_indexes(
    database: Database, add_sweep: AddSweep
) -> None:
    sweep = add_sweep(3, keep=Keep(best=1))

    def act() -> None:
        with database.writing() as session:
            retention.free(session, sweep, 1)
            retention.models(session, sweep)
        Retention(database, Store("memory://")).step()

    statements = statements_of(database, act, tables=("kept",))
    plans = [plan_of(database, *statement) for statement in statements]
    assert ["ix_kept_rank" in plan or "ix_kept_due" in plan for plan in plans] == [True] * 3, plans
    for plan in plans:  # PostgreSQL sorts the few rows of a small table
        assert not re.search(r"TEMP B-TREE|SCAN (kept|models)\b(?! USING)|Seq Scan", plan), plan
