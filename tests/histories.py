"""Histories as tests compare them."""

from jobs.history import History


def without_seconds(history: History) -> list[dict[str, float]]:
    """Each epoch, without the time that it took."""
    return [epoch | {"seconds": 0.0} for epoch in history.epochs()]
