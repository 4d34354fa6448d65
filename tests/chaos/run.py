"""One disturbed run, from an empty yard to a verdict."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tests.chaos import figures, story, sweeps, verdict
from tests.chaos.bells import Bells
from tests.chaos.checkpoints import Checkpoints
from tests.chaos.crew import STOPPED, End
from tests.chaos.faults import DATABASE, MIX, SERVERS, Fault, Pace, plan
from tests.chaos.figures import Figures
from tests.chaos.hand import SCHEDULER, Done, Hand
from tests.chaos.scene import Scene, Stuck, Times
from tests.chaos.sweeps import Came, Cell, Size
from tests.chaos.timeline import Timeline
from tests.chaos.verdict import Complaint

STORIES = 3  # of jobs, that a failed run tells
Outcome = dict[Cell, tuple[int, Came]]
Told = Callable[[str, int, int], None]  # what is done, how much of it is, of how much


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be done."""

    seed: int
    faults: int
    size: Size
    pace: Pace
    times: Times
    workers: int
    servers: bool  # PostgreSQL and Redis; else SQLite without a broker

    def mix(self) -> Mapping[Fault, int]:
        return {fault: part for fault, part in MIX.items() if self.servers or fault not in SERVERS}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of it."""

    complaints: list[Complaint]
    figures: Figures
    notes: dict[str, Any]  # what else was seen
    stories: list[str]


def undisturbed(home: Path, size: Size, times: Times, workers: int, told: Told) -> Outcome:
    """What the sweeps come to when nobody disturbs them, on SQLite."""
    scene = Scene(home, times, workers=workers, servers=False)
    try:
        for spec in size.specs():
            assert scene.submit(spec)
        scene.crew.start()
        scene.wait_for_end(lambda left, total: told("jobs, undisturbed", total - left, total))
        trouble = scene.crew.close(times.grace)
        assert not trouble, trouble
        return {cell: came for sweep in _sweeps(scene) for cell, came in _outcome(scene, sweep).items()}
    finally:
        scene.crew.close(times.grace)
        scene.close()


def _sweeps(scene: Scene) -> list[int]:
    return [row["id"] for row in scene.records.rows("SELECT id FROM sweeps ORDER BY id")]


def _outcome(scene: Scene, sweep: int) -> Outcome:
    return sweeps.outcomes(scene.url, scene.records, sweep)


def disturbed(home: Path, order: Order, wanted: Outcome, told: Told) -> Verdict:
    """Run the sweeps while a hand disturbs the yard, and judge what came of it."""
    scene = Scene(home, order.times, workers=order.workers, servers=order.servers)
    checkpoints = Checkpoints(scene.store)
    hand = Hand(scene.crew, scene.broker, scene.postgres)
    complaints: list[Complaint] = []
    try:
        for spec in order.size.specs():
            assert scene.submit(spec)
        scene.crew.start()
        feeder = _Feeder(scene, order.size.specs())
        faults = plan(order.seed, order.faults, order.pace, order.mix())
        for number in hand.work(faults, order.pace.patience, feeder.look):
            told(f"faults; {feeder.left} jobs left", number, order.faults)
        complaints += _end(scene, told)
        complaints += [Complaint(text=text) for text in scene.crew.close(order.times.grace)]
        checkpoints.close()
        return _judged(scene, order, hand, checkpoints, wanted, complaints)
    finally:
        scene.crew.close(order.times.grace)
        scene.close()


class _Feeder:
    """Keeps work there while the hand is at it: on a fast machine the sweeps are submitted once more."""

    PART = 6  # so small a part of the jobs is left when more are submitted

    def __init__(self, scene: Scene, specs: Sequence[dict[str, Any]]) -> None:
        self._scene, self._specs, self._next = scene, specs, 0
        self._least = (scene.left() or 0) // self.PART
        self.left: int | None = None

    def look(self) -> set[int] | None:
        """Submit more if few are left; who is at work."""
        self.left = self._scene.left()
        if self.left is not None and self.left < self._least and self._scene.submit(self._specs[self._next]):
            self._next = (self._next + 1) % len(self._specs)
        return self._scene.at_work()


def _end(scene: Scene, told: Told) -> Iterator[Complaint]:
    """Wait for the end of the sweeps; jobs that were set aside, because they were hit too often, are retried."""
    try:
        while True:
            scene.wait_for_end(lambda left, total: told("jobs; the hand rests", total - left, total))
            failed = scene.records.rows("SELECT DISTINCT sweep_id FROM jobs WHERE state = 'failed'")
            if not failed:
                return
            for row in failed:
                sweeps.gridyard_command("retry", str(row["sweep_id"]), environment=scene.environment)
    except Stuck as stuck:
        yield Complaint(text=str(stuck))


def _judged(
    scene: Scene,
    order: Order,
    hand: Hand,
    checkpoints: Checkpoints,
    wanted: Outcome,
    complaints: list[Complaint],
) -> Verdict:
    timeline = Timeline(scene.records.changes())
    for sweep in _sweeps(scene):
        came = _outcome(scene, sweep)
        names = {cell[0] for cell in came}
        complaints += verdict.of_results({cell: one for cell, one in wanted.items() if cell[0] in names}, came)
    complaints += verdict.of_record(timeline, scene.records, verdict.deliveries(scene.log_files()))
    complaints += verdict.of_checkpoints(timeline, scene.records, checkpoints)
    complaints += verdict.of_models(scene.records, scene.store)
    complaints += verdict.of_logs(scene.log_files())
    complaints += _of_ends(scene.crew.ends, hand.done, order)
    complaints += [Complaint(text=text) for text in hand.troubles]
    concerned = dict.fromkeys(one.job for one in complaints if one.job is not None)
    told = [
        line
        for job in islice(concerned, STORIES)
        for line in story.of(job, timeline, scene.records, hand.done, scene.log_files())
    ]
    return Verdict(
        complaints=complaints,
        figures=figures.of(timeline, scene.records, hand.done),
        notes=_notes(scene, hand, timeline),
        stories=told,
    )


def _of_ends(ends: Sequence[End], done: Sequence[Done], order: Order) -> Iterator[Complaint]:
    """A process that was told to stop does so in time; none ends by itself but where the database is away."""
    longest = order.times.grace + 5.0
    away = [(one.at, one.until + longest) for one in done if one.fault in DATABASE]
    for end in ends:
        disturbed = any(begin <= end.at <= until for begin, until in away)
        if end.code == -9 or disturbed:
            continue
        if end.asked is None:
            yield Complaint(text=f"{end.who} ended by itself, exit code {end.code}")
        elif end.code not in STOPPED:
            yield Complaint(text=f"{end.who} was told to stop, and ended with exit code {end.code}")
        elif end.at - end.asked > longest:
            yield Complaint(text=f"{end.who} was told to stop, and took {end.at - end.asked:.1f} s")


def _notes(scene: Scene, hand: Hand, timeline: Timeline) -> dict[str, Any]:
    stops = [end.at - end.asked for end in scene.crew.ends if end.asked is not None and end.code == 0]
    set_aside = sum(c.state == "failed" for changes in timeline.by_job.values() for c in changes)
    notes: dict[str, Any] = {
        "sweeps": len(_sweeps(scene)),
        "starts of workers": sum(m.starts for name, m in scene.crew.members.items() if name != SCHEDULER),
        "seconds from SIGTERM to the end, worst": round(max(stops, default=0.0), 1),
        "ends by itself": sum(end.asked is None and end.code != -9 for end in scene.crew.ends),
        "jobs set aside and retried by hand": set_aside,
        "faults that met nobody": len(hand.missed),
    }
    if scene.broker is not None:
        counts = scene.broker.bells.counts
        notes |= {f"bells {bells.value}": counts[bells] for bells in Bells}
    return notes
