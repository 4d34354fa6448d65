"""How many jobs train together is what was fastest when it was tried, and fits in memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jobs import built, cgroup, sizing
from jobs.forward import Mode
from jobs.row import Row
from jobs.sizing import GAIN, SIZES, SLOW_SECONDS, Choice, Sizes, fits, free_bytes
from jobs.spec import Assignment, JobSpec
from tests.training import row_of

MakeSpec = Callable[..., JobSpec]
MakeRow = Callable[..., Row]


@pytest.fixture(autouse=True)
def nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what this machine has measured before."""
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path))


@pytest.fixture
def row(make_spec: MakeSpec) -> MakeRow:
    """row(most=8): a job of known layers whose sweep allows so many at once."""

    def make(most: int = 0, **given: object) -> Row:
        made = row_of(make_spec(**given))
        made.assignment = Assignment(spec=made.spec, attempt=1, most=most)
        return made

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Choice], float]], list[Choice]]:
    """clock(what): an epoch takes a job of a pack so long; the list is what was tried."""

    def set_to(take: Callable[[Choice], float]) -> list[Choice]:
        tried: list[Choice] = []

        def seconds(row: Row, choice: Choice) -> float:
            tried.append(choice)
            return take(choice)

        monkeypatch.setattr(sizing, "seconds", seconds)
        return tried

    return set_to


Clock = Callable[[Callable[[Choice], float]], list[Choice]]


class TestMeasuring:
    def test_packs_grow_as_long_as_each_job_takes_less_time(self, row: MakeRow, clock: Clock) -> None:
        clock(lambda choice: 0.01 / choice.size)
        assert Sizes().of(row(), others=5) == Choice(Mode.STACKED, SIZES[-1])

    @pytest.mark.parametrize("size", SIZES)
    def test_they_stop_where_a_larger_one_gains_nothing(self, row: MakeRow, clock: Clock, size: int) -> None:
        tried = clock(lambda choice: 0.01 / min(choice.size, size))
        assert Sizes().of(row(), others=5) == Choice(Mode.STACKED, size)
        assert [choice.size for choice in tried] == [*SIZES[: SIZES.index(size) + 2]]

    def test_a_gain_that_is_hardly_one_does_not_count(self, row: MakeRow, clock: Clock) -> None:
        clock(lambda choice: 0.01 if choice.size == 1 else 0.01 * (GAIN + 0.01))
        assert Sizes().of(row(), others=5).size == 1

    def test_what_one_step_keeps_busy_for_long_is_not_tried_together(self, row: MakeRow, clock: Clock) -> None:
        steps = len(row().built.batches)
        tried = clock(lambda choice: 1.01 * SLOW_SECONDS * steps / choice.size)
        assert Sizes().of(row(), others=5).size == 1
        assert len(tried) == 1

    def test_a_shape_is_measured_once(self, row: MakeRow, clock: Clock) -> None:
        tried, sizes = clock(lambda choice: 0.01 / min(choice.size, 8)), Sizes()
        first = sizes.of(row(lr=0.1), others=5)
        count = len(tried)
        assert sizes.of(row(lr=0.2, seed=3), others=9) == first
        assert len(tried) == count
        sizes.of(row(hidden=[5]), others=5)
        assert len(tried) == 2 * count

    def test_measuring_changes_no_number_of_the_job(self, row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sizing, "SIZES", (1, 8))
        one = row(dropout=0.3, batch_norm=True)
        weights = one.built.weights.clone()
        buffers = {name: buffer.clone() for name, buffer in one.built.buffers.items()}
        sizing.measure(one, [Mode.STACKED, Mode.ALONE])
        assert torch.equal(one.built.weights, weights)
        assert torch.equal(one.take_state().weights, weights)
        assert all(torch.equal(one.built.buffers[name], buffer) for name, buffer in buffers.items())
        assert (one.history, one.lr.steps_done) == ([], 0)


class TestMemory:
    def test_only_what_fits_is_tried(self, row: MakeRow, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        tried, one = clock(lambda choice: 0.01 / choice.size), row()
        free = 1
        monkeypatch.setattr(sizing, "free_bytes", lambda device: free)
        while not fits(one, 32):  # so little that twice as many would not
            free *= 2
        assert Sizes().of(one, others=5).size == 32
        assert [choice.size for choice in tried] == [1, 8, 32]

    def test_its_weights_and_what_belongs_to_them_must_fit(self, row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
        """More than weights, gradients, best weights and Adam's two states of its rows; and this machine has some."""
        assert free_bytes(torch.device("cpu")) > 2**20
        one = row()
        monkeypatch.setattr(sizing, "free_bytes", lambda device: 100 * 5 * 4 * one.built.layout.size)
        assert not fits(one, 100)

    def test_an_epochs_outputs_must_fit_where_metrics_are_computed_of_them(
        self, row: MakeRow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, free = row(), 1
        assert one.built.outputs == 3 * len(one.problem.train)  # of each flower a number for each species
        monkeypatch.setattr(sizing, "free_bytes", lambda device: free)
        one.built.__dict__["outputs"] = 0
        while not fits(one, 8):
            free *= 2
        one.built.__dict__["outputs"] = free
        assert not fits(one, 8)

    def test_a_container_has_no_more_than_its_limit_leaves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cpu = torch.device("cpu")
        monkeypatch.setattr(cgroup, "free_bytes", lambda: 12_345)
        assert free_bytes(cpu) == 12_345
        monkeypatch.setattr(cgroup, "free_bytes", lambda: None)
        assert free_bytes(cpu) > 12_345
        monkeypatch.setattr(cgroup, "free_bytes", lambda: 1 << 60)
        assert free_bytes(cpu) < 1 << 60

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
    def test_growth_ends_where_memory_does(self, row: MakeRow, clock: Clock, error: type[Exception]) -> None:
        def take(choice: Choice) -> float:
            if choice.size > 32:
                raise error
            return 0.01 / choice.size

        clock(take)
        assert Sizes().of(row(), others=5) == Choice(Mode.STACKED, 32)

    def test_a_size_that_found_no_room_later_is_not_taken_again(self, row: MakeRow, clock: Clock) -> None:
        clock(lambda choice: 0.01 / choice.size)
        sizes = Sizes()
        assert sizes.of(row(), others=5).size == SIZES[-1]
        sizes.limit(row(), 64)
        assert sizes.of(row(), others=5) == Choice(Mode.STACKED, 64)


class TestWhatTheSweepSays:
    def test_a_number_is_obeyed_without_measuring(self, row: MakeRow, clock: Clock) -> None:
        tried = clock(lambda choice: 0.01)
        assert Sizes().of(row(most=20), others=5) == Choice(Mode.STACKED, 20)
        assert tried == []

    def test_off_is_obeyed(self, row: MakeRow, clock: Clock) -> None:
        tried = clock(lambda choice: 0.01 / choice.size)
        assert Sizes().of(row(most=1), others=5) == Choice(Mode.STACKED, 1)
        assert tried == []

    def test_a_job_without_others_is_not_measured(self, row: MakeRow, clock: Clock) -> None:
        tried = clock(lambda choice: 0.01 / choice.size)
        assert Sizes().of(row(), others=0) == Choice(Mode.STACKED, 1)
        assert tried == []


class TestModes:
    @pytest.fixture
    def strange(self, row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> Row:
        """A job whose network is not of known layers, so far as the engine knows."""
        monkeypatch.setattr(built, "stack", lambda net: None)
        return row(hidden=[9, 4])

    def test_a_network_of_unknown_layers_is_mapped_where_that_pays(self, strange: Row, clock: Clock) -> None:
        tried = clock(lambda choice: 0.01 / min(choice.size, 8))
        assert Sizes().of(strange, others=5) == Choice(Mode.MAPPED, 8)
        assert tried[0] == Choice(Mode.ALONE, 1), "compared with the network itself"

    def test_and_goes_row_by_row_where_it_does_not(self, strange: Row, clock: Clock) -> None:
        clock(lambda choice: 0.01 if choice.mode is Mode.ALONE else 0.011)
        assert Sizes().of(strange, others=5) == Choice(Mode.ALONE, 1)

    @pytest.mark.parametrize("most", [0, 8])
    def test_a_network_that_does_not_agree_is_never_trained_with_others(
        self, strange: Row, clock: Clock, monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        clock(lambda choice: 0.01 / choice.size)
        monkeypatch.setattr(sizing, "agrees", lambda row, mode: False)
        strange.assignment = Assignment(spec=strange.spec, attempt=1, most=most)
        assert Sizes().of(strange, others=5) == Choice(Mode.ALONE, 1)

    def test_the_self_check_sees_gradients_that_are_a_little_wrong(
        self, row: MakeRow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = sizing.gradients

        def wrong(row: Row, mode: Mode) -> torch.Tensor:
            found = right(row, mode)
            if mode is not Mode.ALONE:
                found[2, 5] += 0.001 * found[2].abs().max()
            return found

        assert sizing.agrees(row(), Mode.STACKED)
        monkeypatch.setattr(sizing, "gradients", wrong)
        assert not sizing.agrees(row(), Mode.STACKED)


def test_the_clock_counts_training_and_evaluation_for_each_job(row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of the steps of an epoch are timed, and stand for all; the fastest of three tries counts."""
    ticks = iter([0.0, 4.0, 5.0, 10.0, 18.0, 20.0, 30.0, 38.0, 40.0])
    monkeypatch.setattr(sizing, "clock_of", lambda row: lambda: next(ticks))
    one = row(batch_size=9)
    assert len(one.built.batches) == 10
    assert sizing.seconds(one, Choice(Mode.STACKED, 2)) == (4.0 / 4 * 10 + 1.0) / 2
