"""The states, their moves, their drawing and the database's constraints say the same."""

import re
from pathlib import Path
from typing import get_args

from sqlalchemy import CheckConstraint

from db.models import Job, Sweep
from jobs.states import FINAL, MOVES, FailureReason, JobState, SweepState
from scheduler.sweep_keys import Reason

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def constraint(table: type[Job] | type[Sweep], name: str) -> set[str]:
    """The quoted words of a CHECK constraint."""
    for found in table.__table__.constraints:  # type: ignore[attr-defined]
        if isinstance(found, CheckConstraint) and str(found.name).endswith(f"_{name}"):
            return set(re.findall(r"'(\w+)'", str(found.sqltext)))
    raise AssertionError(f"no constraint {name}")


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(JobState)


def test_final_states_are_left_only_on_the_users_word() -> None:
    left = {move for state in FINAL for move in MOVES[state].values()}
    assert left == {"retry", "resume", "extend"}


def test_every_state_can_be_reached_and_every_path_can_end() -> None:
    reached = {JobState.READY} | {target for moves in MOVES.values() for target in moves}
    assert reached == set(JobState)
    assert all(moves for state, moves in MOVES.items() if state not in FINAL)


def test_the_diagram_in_the_docs_draws_the_moves() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+): (.+)$", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE))
    table = {(state.value, target.value, move) for state, moves in MOVES.items() for target, move in moves.items()}
    assert drawn == table


def test_the_database_knows_the_same_states_and_reasons() -> None:
    assert constraint(Job, "state") == set(JobState)
    assert constraint(Job, "final") == set(FINAL)
    assert constraint(Job, "reason") == set(FailureReason)
    assert constraint(Sweep, "state") == set(SweepState)


def test_a_sweep_file_may_name_every_reason() -> None:
    assert set(get_args(Reason)) == set(FailureReason)
