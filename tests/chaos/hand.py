"""The hand: carries a plan of faults out, and notes what it did."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from tests.chaos.bells import Bells
from tests.chaos.crew import Crew, Member
from tests.chaos.faults import FREEZES, Fault, Planned
from tests.chaos.servers import Broker, Postgres

SCHEDULER = "scheduler"
WORKER = "worker-"  # and its number
LOOK_SECONDS = 0.2

AtWork = Callable[[], set[int] | None]  # processes of workers that train, by the database; None: it is away


@dataclass(frozen=True, kw_only=True)
class Done:
    """A fault as it was."""

    at: float  # seconds since the epoch
    until: float  # when it was over: the frozen goes on, the server is there again
    fault: Fault
    who: str  # members or servers it was done to
    pids: frozenset[int] = field(default=frozenset())  # of the workers it was done to; empty: all


class Hand:
    """Does one fault after the other; what lasts for a while goes on beside the next ones."""

    def __init__(self, crew: Crew, broker: Broker | None, database: Postgres | None) -> None:
        self.done: list[Done] = []
        self.missed: list[Planned] = []  # nobody was there to do it to
        self.troubles: list[str] = []  # of its own: the harness, not the product, has failed
        self._crew, self._broker, self._database = crew, broker, database
        self._lasting: list[threading.Thread] = []
        self._busy: set[int] = set()

    def work(self, plan: Sequence[Planned], patience: float, at_work: AtWork) -> Iterator[int]:
        """Carry the plan out; yields the number of faults that are done.

        Args:
            patience: the seconds that a fault waits at most until somebody is at work: on a busy machine workers that
                were killed take long to start.
            at_work: called again and again.
        """
        begun = time.monotonic()
        for number, planned in enumerate(plan, 1):
            while time.monotonic() < begun + planned.at:
                self._look(at_work)
                time.sleep(LOOK_SECONDS)
            since = time.monotonic()
            while not self._look(at_work) and time.monotonic() < since + patience:
                time.sleep(LOOK_SECONDS)
            begun += time.monotonic() - since  # all others are as much later
            self._do(planned)
            yield number
        for thread in self._lasting:
            thread.join()

    def _look(self, at_work: AtWork) -> bool:
        """Whether there is somebody to disturb, as far as the database tells."""
        pids = at_work()
        self._busy = {process for pid in pids or () for process in (pid, *_above(pid))}
        return pids is None or any(self._is_busy(member) for member in self._crew.members.values())

    def _is_busy(self, member: Member) -> bool:
        main = member.main()
        return main is not None and not member.frozen and main.pid in self._busy

    def _do(self, planned: Planned) -> None:
        members = self._victims(planned)
        if members is None:
            self.missed.append(planned)
            return
        at, who = time.time(), ", ".join(member.name for member in members) or "all"
        pids = frozenset(process.pid for member in members for process in member.tree()[0])
        act, undo = self._acts(planned, members)
        if not planned.seconds:
            act()
            self._note(planned, who, at, pids)
            return

        def last() -> None:
            act()
            time.sleep(planned.seconds)
            undo()
            self._note(planned, who, at, pids)

        thread = threading.Thread(target=self._guarded(last), name=str(planned.fault))
        self._lasting.append(thread)
        thread.start()

    def _note(self, planned: Planned, who: str, at: float, pids: frozenset[int]) -> None:
        self.done.append(Done(at=at, until=time.time(), fault=planned.fault, who=who, pids=pids))

    def _guarded(self, action: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                action()
            except Exception as error:
                self.troubles.append(f"the hand stumbled: {type(error).__name__}: {error}")

        return run

    def _victims(self, planned: Planned) -> list[Member] | None:
        """Whom to do it to: workers or the scheduler; none of them for servers; None where nobody is there."""
        there = [member for member in self._crew.members.values() if member.runs]
        workers = [member for member in there if member.name.startswith(WORKER)]
        match planned.fault:
            case Fault.KILL_ALL:
                return there
            case Fault.KILL_SCHEDULER:
                return [member for member in there if member.name == SCHEDULER] or None
            case Fault.KILL_WORKER:
                able = workers
            case Fault.KILL_TRAINER:
                able = [member for member in workers if member.tree()[1]]
            case Fault.TERM_WORKER | Fault.FREEZE_WORKER | Fault.FREEZE_SUPERVISOR:
                able = [member for member in workers if not member.frozen and member.asked is None]
            case _:
                return []
        if planned.aimed:  # else anybody, who may only be starting
            able = [member for member in able if self._is_busy(member)] or able
        return [able[int(planned.victim * len(able))]] if able else None

    def _acts(self, planned: Planned, members: list[Member]) -> tuple[Callable[[], object], Callable[[], object]]:
        """What is done, and what ends it."""
        nothing = lambda: None  # noqa: E731
        if planned.fault in FREEZES:
            only_us = planned.fault is Fault.FREEZE_SUPERVISOR
            return lambda: _freeze(members[0], only_us), lambda: _thaw(members[0])
        broker, database = self._broker, self._database
        match planned.fault:
            case Fault.KILL_WORKER | Fault.KILL_SCHEDULER | Fault.KILL_ALL:
                return lambda: [_kill(member, planned.victim) for member in members], nothing
            case Fault.KILL_TRAINER:
                return lambda: _signal(members[0].tree()[1], signal.SIGKILL), nothing
            case Fault.TERM_WORKER:
                return members[0].stop, nothing
        if broker is not None:
            match planned.fault:
                case Fault.FLUSH_BROKER:
                    return broker.flush, nothing
                case Fault.STOP_BROKER:
                    return broker.stop, broker.start
                case Fault.DOUBLE_BELLS:
                    return lambda: _treat(broker, Bells.DOUBLED), lambda: _treat(broker, Bells.HEARD)
                case Fault.DROP_BELLS:
                    return lambda: _treat(broker, Bells.DROPPED), lambda: _treat(broker, Bells.HEARD)
        if database is not None:
            match planned.fault:
                case Fault.RESTART_DATABASE:
                    return lambda: (database.stop(), database.start()), nothing
                case Fault.CRASH_DATABASE:
                    return lambda: (database.kill(), database.start()), nothing
                case Fault.STOP_DATABASE:
                    return database.stop, database.start
        raise AssertionError(f"this yard has no server for: {planned.fault}")


def _above(pid: int) -> list[int]:
    """The processes that started this one: a worker may have one that minds it."""
    with contextlib.suppress(psutil.Error):
        return [process.pid for process in psutil.Process(pid).parents()]
    return []


def _kill(member: Member, which: float) -> None:
    """The process that was started, or, where that only minds another, one of the two."""
    own, _ = member.tree()
    if own:
        _signal([own[int(which * 7919 % 1 * len(own))]], signal.SIGKILL)


def _freeze(member: Member, only_us: bool) -> None:
    own, trainers = member.tree()
    member.frozen.update(own if only_us else own + trainers)
    _signal(own if only_us else own + trainers, signal.SIGSTOP)


def _thaw(member: Member) -> None:
    _signal(list(member.frozen), signal.SIGCONT)
    member.frozen.clear()


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it ended a moment ago
            process.send_signal(number)


def _treat(broker: Broker, bells: Bells) -> None:
    broker.bells.bells = bells
