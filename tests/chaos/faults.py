"""What a hand may do to a yard, and a seeded plan of it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """One kind of harm. The value is what reports call it."""

    KILL_WORKER = "worker killed"
    KILL_TRAINER = "trainer killed"
    KILL_SCHEDULER = "scheduler killed"
    KILL_ALL = "all workers and the scheduler killed"
    TERM_WORKER = "worker told to stop (SIGTERM)"
    FREEZE_WORKER = "worker and its trainer frozen for longer than the lease"
    FREEZE_SUPERVISOR = "worker frozen for longer than the lease, its trainer not"
    FLUSH_BROKER = "Redis emptied (FLUSHALL)"
    STOP_BROKER = "Redis away"
    RESTART_DATABASE = "PostgreSQL restarted"
    CRASH_DATABASE = "PostgreSQL killed and started again"
    STOP_DATABASE = "PostgreSQL away"
    DOUBLE_BELLS = "every bell doubled for a while"
    DROP_BELLS = "every bell dropped for a while"


# Of these, one at a time: a server that is away cannot be stopped.
BROKER = frozenset({Fault.FLUSH_BROKER, Fault.STOP_BROKER})
DATABASE = frozenset({Fault.RESTART_DATABASE, Fault.CRASH_DATABASE, Fault.STOP_DATABASE})
BELLS = frozenset({Fault.DOUBLE_BELLS, Fault.DROP_BELLS})
FREEZES = frozenset({Fault.FREEZE_WORKER, Fault.FREEZE_SUPERVISOR})
# After these, no job goes on in the attempt that it was in.
DEATHS = frozenset({Fault.KILL_WORKER, Fault.KILL_TRAINER, Fault.KILL_ALL, Fault.TERM_WORKER})
SERVERS = BROKER | DATABASE | BELLS
AIMED = 0.75  # of the faults
SETTLES = 1.0  # seconds between two faults of one server

# Parts of a long run. Deaths of processes are the most; what takes half a minute comes some times only.
MIX: dict[Fault, int] = {
    Fault.KILL_WORKER: 44,
    Fault.KILL_TRAINER: 52,
    Fault.KILL_SCHEDULER: 20,
    Fault.KILL_ALL: 2,
    Fault.TERM_WORKER: 26,
    Fault.FREEZE_WORKER: 12,
    Fault.FREEZE_SUPERVISOR: 8,
    Fault.FLUSH_BROKER: 12,
    Fault.STOP_BROKER: 5,
    Fault.RESTART_DATABASE: 6,
    Fault.CRASH_DATABASE: 4,
    Fault.STOP_DATABASE: 4,
    Fault.DOUBLE_BELLS: 6,
    Fault.DROP_BELLS: 6,
}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast the hand is, in seconds."""

    pause: float  # between two faults: half to one and a half of it
    lease: float  # of the yard's claims: what is frozen stays so for 1.3 to 2.5 times as long
    broker_away: float
    database_away: float
    bells: float  # so long they are doubled or dropped
    patience: float  # so long the hand waits at most until there is somebody at work to disturb


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A fault to come."""

    at: float  # seconds after the hand has begun
    fault: Fault
    victim: float  # from 0 to 1: which of those there are then
    aimed: bool  # at those that train, if there are any
    seconds: float  # how long it lasts; 0: it is done at once


def plan(seed: int, faults: int, pace: Pace, mix: Mapping[Fault, int]) -> list[Planned]:
    """So many faults, in proportion to the mix and in an order that follows from the seed alone."""
    draw = random.Random(seed)
    kinds = _dealt(faults, mix)
    draw.shuffle(kinds)
    planned: list[Planned] = []
    at, free_at = 0.0, dict.fromkeys((BROKER, DATABASE, BELLS), 0.0)

    def can_be_done(kind: Fault) -> float:
        return max((free for servers, free in free_at.items() if kind in servers), default=0.0)

    while kinds:
        at += pace.pause * draw.uniform(0.5, 1.5)
        # The next that can be done now; only where there is none, the hand waits for a server.
        kind = next((kind for kind in kinds if can_be_done(kind) <= at), kinds[0])
        kinds.remove(kind)
        at = max(at, can_be_done(kind))
        seconds = _lasts(kind, pace, draw)
        for servers in free_at:
            if kind in servers:
                free_at[servers] = at + seconds + SETTLES
        planned.append(Planned(at=at, fault=kind, victim=draw.random(), aimed=draw.random() < AIMED, seconds=seconds))
    return planned


def _dealt(faults: int, mix: Mapping[Fault, int]) -> list[Fault]:
    """Each kind at least once, as far as there is room, and the rest in proportion."""
    total, dealt = sum(mix.values()), list(mix)[:faults]
    wanted = [(faults * part / total, kind) for kind, part in mix.items()]
    while len(dealt) < faults:
        dealt.append(max(wanted, key=lambda one: one[0] - dealt.count(one[1]))[1])
    return dealt


def _lasts(kind: Fault, pace: Pace, draw: random.Random) -> float:
    if kind in FREEZES:
        return pace.lease * draw.uniform(1.3, 2.5)
    fixed = {Fault.STOP_BROKER: pace.broker_away, Fault.STOP_DATABASE: pace.database_away}
    return fixed.get(kind, pace.bells if kind in BELLS else 0.0)
