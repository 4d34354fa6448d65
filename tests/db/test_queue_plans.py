"""The queue's queries are served by their indexes: a million finished jobs cost a claim nothing."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, text

from db import claiming, turns, upkeep
from db.session import Database

AddSweep = Callable[..., int]


def plan_of(database: Database, statement: str, values: Any) -> str:
    """How the database will execute a statement."""
    explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
    with database.writing() as session:
        if database.dialect == "postgresql":  # a small table would be read whole, whatever its indexes
            session.execute(text("SET LOCAL enable_seqscan = off"))
        rows = session.connection().exec_driver_sql(f"{explain} {statement}", values)
        return "\n".join(str(row[-1]) for row in rows)


def statements_of(
    database: Database, action: Callable[[], object], tables: tuple[str, ...] = ("jobs",)
) -> list[tuple[str, Any]]:
    """The statements on these tables that an action sends, with their values."""
    seen: list[tuple[str, Any]] = []

    def note(connection: object, cursor: object, statement: str, values: Any, *_: object) -> None:
        if any(table in statement for table in tables) and not statement.startswith("INSERT"):
            seen.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    action()
    event.remove(database.engine, "before_cursor_execute", note)
    return seen


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("look", "ix_jobs_sweep_state_pack"),
        ("claim", "ix_jobs_sweep_state_pack"),
        ("claim of many", "ix_jobs_sweep_state_pack"),
        ("claim of the like", "ix_jobs_sweep_state_pack"),
        ("claim of the rest of a share", "ix_jobs_sweep_state_pack"),
        ("claim of a limited sweep", "ix_jobs_sweep_state_pack"),
        ("claim of equal sweeps", "ix_jobs_(sweep_state_pack|running)"),
        ("look at equal sweeps", "ix_jobs_(sweep_state_pack|running)"),
        ("rescue", "ix_jobs_running"),
        ("due", "ix_jobs_waiting"),
        ("close", "ix_jobs_sweep_state_pack"),
    ],
)
def test_each_step_of_the_queue_reads_an_index(database: Database, add_sweep: AddSweep, name: str, index: str) -> None:
    add_sweep(3, max_running=2 if name == "claim of a limited sweep" else None)
    if "equal sweeps" in name:
        add_sweep(3)

    def act() -> None:
        with database.writing() as session:
            match name:
                case "look":
                    turns.has_ready(session, "cpu")
                case "claim" | "claim of a limited sweep" | "claim of equal sweeps":
                    assert claiming.claim(session, "cpu", "w", 60.0)
                case "look at equal sweeps":
                    turns.next_sweep(session, "cpu")
                case "claim of many":
                    claiming.claim(session, "cpu", "w", 60.0, limit=2)
                case "claim of the like":
                    claiming.claim(session, "cpu", "w", 60.0, limit=2, like=(1, 0))
                case "claim of the rest of a share":
                    claiming.claim(session, "cpu", "w", 60.0, limit=2, like=(1, 0), beside_one=True)
                case "rescue":
                    upkeep.rescue(session)
                case "due":
                    upkeep.make_due_ready(session)
                case "close":
                    upkeep.close_finished(session)

    statements = statements_of(database, act)
    assert statements
    for statement, values in statements:
        plan = plan_of(database, statement, values)
        assert re.search(index, plan), f"{statement}\n{plan}"
        assert not re.search(r"SCAN jobs(?! USING INDEX ix_jobs_running)", plan)  # few rows run at a time


def test_a_claim_of_the_only_sweep_counts_nothing(database: Database, add_sweep: AddSweep) -> None:
    """Limits and fair shares cost who has neither nothing: no statement more, and no lock."""
    add_sweep(3)
    add_sweep(3, priority=-1)
    statements = statements_of(database, lambda: _claim(database), tables=("jobs", "sweeps", "counts", "pg_advisory"))
    alone = {"sqlite": 3, "postgresql": 1}  # take, count who could join, and, the first time, read the spec
    assert len([one for one, _ in statements if "sweeps.spec" not in one]) <= alone[database.dialect]
    assert not any("pg_advisory" in one or "DISTINCT" in one for one, _ in statements)


def _claim(database: Database) -> None:
    with database.writing() as session:
        assert claiming.claim(session, "cpu", "w", 60.0)
