"""Bookkeeping takes a small part of a slot's time, however slow the database is."""

import time

SHARE = 20  # what took a second is followed by so many without: less than 5 %


def rest(began: float, least: float = 0.0, most: float = float("inf")) -> float:
    """Until when to leave something alone that began then and has just ended; by the monotonic clock.

    Args:
        least, most: seconds of rest, whatever it took.
    """
    now = time.monotonic()
    return now + min(max(least, SHARE * (now - began)), most)
