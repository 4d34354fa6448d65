"""Ids that a database can hold."""

from jobs.errors import NotFound
from scheduler.plain import MAX_INT


def check_id(kind: str, number: int) -> None:
    """Raises:
    NotFound: no sweep or job (`kind`) can have this id; the database's driver would fail on it.
    """
    if abs(number) > MAX_INT:
        raise NotFound(f"there is no {kind} {number}; an id is a whole number of at most {MAX_INT}")
