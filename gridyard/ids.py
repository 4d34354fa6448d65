"""What the Python client was given where it takes an id or a name."""

import operator
from typing import Any

from jobs.errors import InputError, NotFound
from scheduler.plain import MAX_INT


def check_id(kind: str, number: Any) -> int:
    """The id as an int, also of NumPy's numbers, such as those in a leaderboard.

    Raises:
        InputError: it is no whole number.
        NotFound: no sweep or job (`kind`) can have this id; the database's driver would fail on it.
    """
    try:
        whole = operator.index(number)
    except TypeError:
        raise InputError(f"the id of a {kind} is a whole number, such as 7, not {number!r}") from None
    if abs(whole) > MAX_INT:
        raise NotFound(f"there is no {kind} {whole}; an id is a whole number of at most {MAX_INT}")
    return whole


def check_name(kind: str, name: Any) -> None:
    """
    Raises:
        InputError: what was given as the name of a task or a metric (`kind`) is no text.
    """
    if not (name is None or isinstance(name, str)):
        raise InputError(f"the name of a {kind} is a text, not {name!r}")
