"""The parts of a worker that need no process: the wire, what is held, which devices there are."""

import io
import math
import queue
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

import pytest

from jobs.errors import DatabaseAway, InputError
from jobs.history import History
from jobs.spec import Answer, Assignment, BestModel, Claim, EpochReport, JobSpec, Objective, TrainResult
from workers import devices, wire
from workers.holdings import Holdings
from workers.slot import Slot
from workers.slots import Slots
from workers.trainer import Inbox


def claim(job: int, attempt: int = 1) -> Claim:
    objective = Objective(metric="val_loss", mode="min")
    spec = JobSpec(job=job, sweep=1, sweep_uid="u", task="sine", params={}, seed=0, epochs=1, objective=objective)
    return Claim(spec=spec, worker="w", attempt=attempt)


def test_what_keeps_all_slots_from_work_is_said_once_and_once_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    class Restless(Slot):
        def __init__(self) -> None:
            self.gpu = self.fault = None

        def work(self, asked: Callable[[], object] = lambda: None) -> None:
            if away.pop():
                raise DatabaseAway("the database is away")
            asked()

    away, slots = [False, False, True, True, True], Slots([Restless(), Restless()], stop=lambda: None)
    with caplog.at_level("INFO"):
        for _ in range(len(away)):
            slots.work()
    told, over = [record.getMessage() for record in caplog.records]
    assert told == "slots rest until the next look: the database is away"
    assert over.startswith("slots claim again, after ")


class TestWire:
    def test_a_result_arrives_as_it_was_sent(self) -> None:
        report = EpochReport(job=1, epoch=1, metrics={"a": math.inf, "b": -math.inf, "c": 0.1}, seconds=1 / 3)
        best = BestModel(sha256="ab", size=4, content=b"\x00\xff\n\\")
        sent = TrainResult(
            job=1, score=0.1, metrics={}, best_epoch=1, epochs=1, seconds=0.1, history=History.of([report]), best=best
        )
        pipe = io.BytesIO()
        wire.send(pipe, sent)
        assert pipe.getvalue().count(b"\n") == 1
        assert wire.decode(pipe.getvalue()) == sent

    def test_a_number_that_is_not_one_arrives_too(self) -> None:
        pipe = io.BytesIO()
        report = EpochReport(job=1, epoch=1, metrics={"val_loss": math.nan}, seconds=0.0)
        wire.send(pipe, wire.Epochs(reports=[report], room=0))
        received = wire.decode(pipe.getvalue())
        assert isinstance(received, wire.Epochs)
        assert math.isnan(received.reports[0].metrics["val_loss"])

    def test_the_epochs_of_a_pack_arrive_in_one_line_and_to_the_last_digit(self) -> None:
        numbers = {"a": 1 / 3, "b": math.inf, "c": 5e-324, "d": -0.0}
        reports = [EpochReport(job=job, epoch=7, metrics=numbers, seconds=job / 7) for job in range(3)]
        pipe = io.BytesIO()
        wire.send(pipe, wire.Epochs(reports=reports, room=5))
        assert pipe.getvalue().count(b"\n") == 1
        assert wire.decode(pipe.getvalue()) == wire.Epochs(reports=reports, room=5)

    @pytest.mark.parametrize("line", [b"", b"\n", b"Ready\n", b"Train {}\n", b"Nonsense {}\n", b"Ready {}", b"\xff\n"])
    def test_what_is_no_whole_message_is_refused(self, line: bytes) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 (pydantic's errors are ValueErrors too)
            wire.decode(line)


class Pipe:
    """A trainer's stdin that stays open."""

    def __init__(self) -> None:
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self.lines.get()

    def send(self, message: wire.Message) -> None:
        line = io.BytesIO()
        wire.send(line, message)
        self.lines.put(line.getvalue())


class TestInbox:
    """What a trainer is told while it trains."""

    @pytest.fixture
    def pipe(self) -> Pipe:
        return Pipe()

    @pytest.fixture
    def inbox(self, pipe: Pipe) -> Inbox:
        """It has jobs 1 and 2."""
        inbox = Inbox(cast(BinaryIO, pipe))
        pipe.send(wire.Train(assignments=[Assignment(spec=claim(job).spec, attempt=1) for job in (1, 2)]))
        inbox.packs.get(timeout=60)
        return inbox

    def told(self, pipe: Pipe, inbox: Inbox, job: int, answer: Answer) -> None:
        pipe.send(wire.Reply(job=job, answer=answer))
        pipe.send(wire.Train(assignments=[]))
        inbox.packs.get(timeout=60)  # so the line before has been read

    def test_a_wish_is_there_until_its_job_has_ended(self, pipe: Pipe, inbox: Inbox) -> None:
        assert inbox.wishes == {}
        self.told(pipe, inbox, 2, Answer.GIVE_BACK)
        assert (inbox.wishes, inbox.answers) == ({2: Answer.GIVE_BACK}, {1: Answer.GO_ON, 2: Answer.GIVE_BACK})
        inbox.forget(2)
        assert (inbox.wishes, inbox.answers) == ({}, {1: Answer.GO_ON})

    def test_what_is_said_of_a_job_that_has_ended_is_not_heard(self, pipe: Pipe, inbox: Inbox) -> None:
        inbox.forget(1)
        self.told(pipe, inbox, 1, Answer.CANCELLED)
        assert (inbox.wishes, inbox.answers) == ({}, {2: Answer.GO_ON})

    def test_whoever_looks_at_the_wishes_keeps_what_he_saw(self, pipe: Pipe, inbox: Inbox) -> None:
        """They are read without a lock, so they must never change while somebody reads."""
        self.told(pipe, inbox, 1, Answer.CANCELLED)
        seen = inbox.wishes
        self.told(pipe, inbox, 2, Answer.CANCELLED)
        inbox.forget(1)
        assert seen == {1: Answer.CANCELLED}


class TestHoldings:
    def test_what_is_held_goes_on_until_a_heartbeat_says_otherwise(self) -> None:
        holdings, held = Holdings(), claim(1)
        holdings.hold(held)
        assert holdings.answer(held) is Answer.GO_ON
        holdings.tell({(1, 1): Answer.CANCELLED})
        assert holdings.answer(held) is Answer.CANCELLED

    def test_two_attempts_at_one_job_are_told_apart(self) -> None:
        """After a freeze longer than its lease, a worker may claim a job again that another slot of it still trains."""
        holdings, earlier, later = Holdings(), claim(1, attempt=1), claim(1, attempt=2)
        holdings.hold(earlier)
        holdings.hold(later)
        assert holdings.attempts() == {(1, 1), (1, 2)}
        holdings.tell({(1, 1): Answer.CLAIM_LOST, (1, 2): Answer.GO_ON})
        assert (holdings.answer(earlier), holdings.answer(later)) == (Answer.CLAIM_LOST, Answer.GO_ON)
        holdings.let_go(earlier)
        assert holdings.answer(later) is Answer.GO_ON

    def test_an_answer_for_a_job_that_has_ended_is_left_out(self) -> None:
        holdings, held = Holdings(), claim(1)
        holdings.hold(held)
        holdings.let_go(held)
        holdings.tell({(1, 1): Answer.CLAIM_LOST})
        assert holdings.attempts() == set()

    def test_a_stopping_worker_gives_back_what_it_holds_but_a_cancelled_job_stays_cancelled(self) -> None:
        holdings, going, cancelled = Holdings(), claim(1), claim(2)
        holdings.hold(going)
        holdings.hold(cancelled)
        holdings.tell({(2, 1): Answer.CANCELLED})
        holdings.draining.set()
        assert (holdings.answer(going), holdings.answer(cancelled)) == (Answer.GIVE_BACK, Answer.CANCELLED)


class TestDevices:
    def test_named_gpus_are_respected_and_dealt_out_to_slots(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
        assert devices.slot_devices("gpu", None) == ["2", "5"]
        assert devices.slot_devices("gpu", 3) == ["2", "5", "2"]

    def test_a_device_set_by_name_is_used_whatever_the_queue(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        assert devices.trainer_device("cpu", "cuda:1") == "cuda:1"
        assert devices.slot_devices("cpu", None, "cuda:1") == [None]
        assert devices.slot_devices("gpu", 2, "cpu") == ["", ""]

    def test_trainers_of_the_cpu_queue_see_no_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        assert devices.slot_devices("cpu", 2) == ["", ""]

    def test_a_machine_without_gpus_has_a_slot_per_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.setattr(devices, "_cores", lambda: 3)
        assert devices.slot_devices("gpu", None) == [None, None, None]
        assert devices.slot_devices("cpu", None) == ["", "", ""]

    def test_a_worker_without_slots_is_refused(self) -> None:
        with pytest.raises(InputError, match="at least one slot"):
            devices.slot_devices("cpu", 0)
