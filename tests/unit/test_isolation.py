"""A suspect trains alone in its worker; all others as they come."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from jobs.spec import Claim
from tests.unit.test_worker_parts import claim
from workers.isolation import Isolation

SUSPECT = replace(claim(1), suspect=True)
Asked = list[bool]


def taking(*claims: Claim, asked: Asked | None = None) -> Callable[[bool], list[Claim]]:
    def take(alone: bool) -> list[Claim]:
        if asked is not None:
            asked.append(alone)
        return list(claims)

    return take


def test_only_who_comes_first_is_alone() -> None:
    isolation, asked = Isolation(), Asked()
    for job in (1, 2, 3):
        assert isolation.claim(taking(claim(job), asked=asked)) == [claim(job)]
    isolation.leave()
    isolation.claim(taking(claim(4), asked=asked))
    assert asked == [True, False, False, False]


def test_a_slot_that_found_nothing_is_not_in_the_way() -> None:
    isolation, asked = Isolation(), Asked()
    isolation.claim(taking())
    isolation.claim(taking(claim(1)))
    isolation.claim(taking())
    isolation.leave()
    isolation.claim(taking(asked=asked))
    assert asked == [True]


def test_nothing_is_claimed_beside_a_suspect() -> None:
    isolation, asked = Isolation(), Asked()
    assert isolation.claim(taking(SUSPECT)) == [SUSPECT]
    assert isolation.claim(taking(claim(2), asked=asked)) == []
    isolation.leave()
    assert isolation.claim(taking(claim(2), asked=asked)) == [claim(2)]
    assert asked == [True]


@pytest.mark.parametrize("before", [0, 1])
def test_a_claim_that_raises_leaves_no_trace(before: int) -> None:
    def fail(alone: bool) -> list[Claim]:
        raise OSError("away")

    isolation, asked = Isolation(), Asked()
    for _ in range(before):
        isolation.claim(taking(claim(1)))
    with pytest.raises(OSError, match="away"):
        isolation.claim(fail)
    for _ in range(before):
        isolation.leave()
    isolation.claim(taking(asked=asked))
    assert asked == [True]


def test_nobody_begins_while_the_first_one_asks_for_a_suspect() -> None:
    isolation, asks, go_on, second = Isolation(), threading.Event(), threading.Event(), list[Claim]()

    def slowly(alone: bool) -> list[Claim]:
        asks.set()
        assert go_on.wait(10)
        return [SUSPECT]

    threads = [
        threading.Thread(target=isolation.claim, args=(slowly,)),
        threading.Thread(target=lambda: second.extend(isolation.claim(taking(claim(2))))),
    ]
    threads[0].start()
    assert asks.wait(10)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert second == []
