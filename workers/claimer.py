"""How many jobs a slot claims: the best ready one, and as many that may train with it as the trainer has room for."""

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial

from db import claiming, turns
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseError
from jobs.settings import Settings
from jobs.spec import Claim
from workers.pace import rest

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # the longest pause between two claims for a pack while there are more jobs for it
SIZES_KEPT = 1000  # a sweep's packs come one after the other: the oldest sizes are of no more use

Key = tuple[int, int]  # (sweep, pack number)


def key(claim: Claim) -> Key:
    """What jobs that may train together have in common."""
    return claim.spec.sweep, claim.pack


class Sizes:
    """How many jobs train together, as trainers of this worker last measured it. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[Key, int] = {}

    def note(self, key: Key, size: int) -> None:
        """A trainer has room for so many."""
        with self._lock:
            self._sizes.pop(key, None)
            self._sizes[key] = size
            if len(self._sizes) > SIZES_KEPT:
                del self._sizes[next(iter(self._sizes))]

    def known(self, claim: Claim) -> int:
        """The most jobs to hold with this one, itself among them; 1 where no trainer has said more."""
        with self._lock:
            size = self._sizes.get(key(claim), 1)
        return min(size, claim.most) if claim.most else size


class Claimer:
    """Claims for one slot."""

    def __init__(
        self,
        worker: str,
        queue: str,
        database: Database,
        settings: Settings,
        sizes: Sizes,
        first: int | None = None,
        slot: int = 0,
    ) -> None:
        """
        Args:
            worker: the worker's id, which fences its claims.
            sizes: shared by the slots of a worker.
            first: the sweep whose jobs are claimed before all others.
            slot: number of the slot in its worker, from 0.
        """
        self._worker, self._queue, self._first, self._slot = worker, queue, first, slot
        self._database, self._settings, self._sizes = database, settings, sizes
        self._unjoined = logs.Trouble(logger, "nothing joins", over="jobs join again")
        self._look_at = 0.0  # not before is it asked again who may join, by the monotonic clock

    def claim(self, alone: bool = True) -> list[Claim]:
        """The best ready job, with as many as are known to train well with it; none, if none is ready.

        Args:
            alone: the worker holds nothing else.

        Raises:
            DatabaseError: the database cannot be used.
        """
        began = time.monotonic()
        if self._next_sweep() is None:
            return []
        with self._database.writing() as session:
            lease = self._settings.lease_seconds
            claim = partial(claiming.claim, session, self._queue, self._worker, lease, slot=self._slot)
            claims = claim(first=self._first, alone=alone)
            wanted = self._sizes.known(claims[0]) if claims and claims[0].more else 1
            if wanted > 1:
                claims += claim(limit=wanted - 1, like=key(claims[0]), beside_one=True)
        self._look_again(began, claims, short=len(claims) < wanted)
        return claims

    def join(self, pack: Key, room: int) -> list[Claim]:
        """Up to `room` jobs that join a pack which trains; none where a look would be vain.

        None, too, while a better sweep waits: one of a higher priority, or an equal one that would get this slot if it
        were idle. Else a pack that is filled up for hours would keep its slot for as long.
        """
        began = time.monotonic()
        if room <= 0 or began < self._look_at:
            return []
        claims: list[Claim] = []
        try:
            if self._next_sweep(leaving=pack[0]) == pack[0]:
                with self._database.writing() as session:
                    lease = self._settings.lease_seconds
                    claims = claiming.claim(
                        session, self._queue, self._worker, lease, slot=self._slot, limit=room, like=pack
                    )
            self._unjoined.gone()
        except DatabaseError as error:
            self._unjoined.met(error)
        self._look_again(began, claims, short=len(claims) < room)
        return claims

    def _next_sweep(self, leaving: int | None = None) -> int | None:
        with self._database.reading() as session:  # a look takes no write lock
            return turns.next_sweep(session, self._queue, self._first, leaving)

    def _look_again(self, began: float, claims: Sequence[Claim], short: bool) -> None:
        """When it makes sense to look for more.

        Args:
            short: fewer came than were asked for. Other slots have their share, or none is left but for what is retried
                or given back: a look now and then finds those.
        """
        vain = short or claims[-1].more == 0
        least = self._settings.look_every if vain else 0.0
        self._look_at = rest(began, least=least, most=max(least, LOOK_SECONDS))
