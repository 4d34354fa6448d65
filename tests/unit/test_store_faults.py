"""The store is full, read-only or away: nothing half-written is ever taken for whole, and training goes on."""

import errno
import logging
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from jobs.engine import Options, train
from jobs.errors import StoreError
from jobs.spec import Answer, Assignment, EpochReport, Failure, JobSpec, Outcome, TrainResult
from jobs.states import FailureReason
from jobs.store import Store
from tests.training import answering, go_on

MakeSpec = Callable[..., JobSpec]


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A network file system with rename, on which writes fail as a test says."""

    protocol = "flaky"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    fault: OSError | None = None  # of every write, after half of it
    silent = False  # it loses that half without a word

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("flaky://", "memory://")))

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        fault = type(self).fault
        cut = fault is not None or type(self).silent
        super().pipe_file(path, value[: len(value) // 2] if cut else value, **options)
        if fault is not None:
            raise fault

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        old, new = self._strip_protocol(path1), self._strip_protocol(path2)
        type(self).store[new] = type(self).store.pop(old)


class Particular(Flaky):
    """One that moves onto no file that is there."""

    protocol = "particular"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("particular://", "memory://")))

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        if self.exists(path2):
            raise FileExistsError(path2)
        super().mv(path1, path2)


FULL = OSError(errno.ENOSPC, "No space left on device")
FAULTS = [FULL, OSError(errno.EROFS, "Read-only file system"), PermissionError(errno.EACCES, "Permission denied"),
          ConnectionResetError("the server is gone")]  # fmt: skip


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    fsspec.register_implementation("particular", Particular, clobber=True)
    yield
    Flaky.fault, Flaky.silent = None, False
    Flaky.store.clear()


@pytest.fixture
def flaky() -> Store:
    return Store("flaky://yard")


class TestWhole:
    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__ + str(fault.errno))
    def test_a_write_that_breaks_off_leaves_the_old_file_and_no_rest(self, flaky: Store, fault: OSError) -> None:
        flaky.write("7/1/a", b"old!")
        Flaky.fault = fault
        with pytest.raises(StoreError, match=r"store flaky://yard: could not write '7/1/a'"):
            flaky.write("7/1/a", b"new!")
        assert flaky.read("7/1/a") == b"old!"
        assert list(Flaky.store) == ["/yard/7/1/a"]

    def test_a_backend_that_loses_bytes_without_a_word_is_noticed(self, flaky: Store) -> None:
        Flaky.silent = True
        with pytest.raises(StoreError, match="2 of 4 bytes were written"):
            flaky.write("7/1/a", b"new!")
        assert not flaky.exists("7/1/a")

    def test_where_nothing_is_moved_onto_a_file_the_old_one_goes_first(self) -> None:
        store = Store("particular://yard")
        for content in (b"one", b"two"):
            store.write("7/1/a", content)
        assert store.read("7/1/a") == b"two"

    def test_a_file_is_removed_and_one_that_is_not_there_is_none_to_remove(self, flaky: Store, store: Store) -> None:
        for any_store in (flaky, store):
            any_store.write("7/1/a", b"x")
            any_store.remove("7/1/a")
            any_store.remove("7/1/a")
            assert not any_store.exists("7/1/a")
            with pytest.raises(StoreError, match="store path"):
                any_store.remove("../a")


def run(spec: JobSpec, store: Store, answer: Callable[[EpochReport], Answer] | None = None, **options: Any) -> Outcome:
    given = Options(**{"device": "cpu", "checkpoint_seconds": 0.0, **options})
    report = answering(answer) if answer else go_on
    (outcome,) = train([Assignment(spec=spec, attempt=1)], store=store, options=given, report=report)
    return outcome


class TestTraining:
    def test_without_checkpoints_it_goes_on_says_so_once_and_its_result_tells(
        self, make_spec: MakeSpec, flaky: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        undisturbed = run(make_spec(epochs=6), Store("flaky://other"))
        Flaky.fault = FULL
        with caplog.at_level(logging.WARNING):
            outcome = run(make_spec(epochs=6), flaky)
        assert isinstance(outcome, TrainResult)
        assert isinstance(undisturbed, TrainResult)
        assert (outcome.score, outcome.best) == (undisturbed.score, undisturbed.best)
        assert caplog.text.count("no checkpoint, training goes on without") == 1
        assert "store flaky://yard: could not write '1/1/last.safetensors'" in outcome.environment["checkpoint_missed"]
        assert "No space left on device" in outcome.environment["checkpoint_missed"]
        assert "checkpoint_missed" not in undisturbed.environment

    def test_when_the_store_is_back_checkpoints_are_written_again_and_it_says_so_once(
        self, make_spec: MakeSpec, flaky: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        def answer(report: EpochReport) -> Answer:
            Flaky.fault = FULL if report.epoch in (2, 3, 6) else None
            return Answer.GO_ON

        with caplog.at_level(logging.WARNING):
            run(make_spec(epochs=9), flaky, answer)
        told = [record.getMessage() for record in caplog.records]
        assert [message.split(":")[0].split(", ")[1] for message in told] == [
            "epoch 2",
            "epoch 4",
            "epoch 6",
            "epoch 7",
        ]
        assert flaky.exists("1/1/last.safetensors")

    def test_a_job_that_is_given_back_without_its_checkpoint_goes_on_from_the_one_before(
        self, make_spec: MakeSpec, flaky: Store
    ) -> None:
        def answer(report: EpochReport) -> Answer:
            Flaky.fault = FULL if report.epoch >= 3 else None
            return Answer.GIVE_BACK if report.epoch == 4 else Answer.GO_ON

        undisturbed = run(make_spec(epochs=6), Store("flaky://other"))
        run(make_spec(epochs=6), flaky, answer)
        Flaky.fault = None
        outcome = run(make_spec(epochs=6), flaky)
        assert isinstance(outcome, TrainResult)
        assert isinstance(undisturbed, TrainResult)
        assert (outcome.resumed_from, outcome.score, outcome.best) == (2, undisturbed.score, undisturbed.best)

    def test_a_store_that_is_away_at_the_start_is_warned_of_and_the_job_starts_afresh(
        self, make_spec: MakeSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("no folder")
        outcome = run(make_spec(), Store(str(tmp_path / "file" / "store")))
        assert isinstance(outcome, TrainResult)
        assert outcome.resumed_from == 0
        assert "NotADirectoryError" in outcome.environment["checkpoint_missed"]

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__ + str(fault.errno))
    def test_a_best_model_too_large_for_the_row_that_cannot_be_stored_fails_the_attempt_and_names_the_store(
        self, make_spec: MakeSpec, flaky: Store, fault: OSError
    ) -> None:
        Flaky.fault = fault
        outcome = run(make_spec(), flaky, small_model_bytes=100)
        assert isinstance(outcome, Failure)
        assert (outcome.reason, outcome.again) == (FailureReason.ERROR, True)
        message = outcome.error.splitlines()[0]
        assert message.startswith("StoreError: store flaky://yard: could not write '1/1/best.safetensors': ")
        assert not flaky.exists("1/1/best.safetensors")


class TestRealFiles:
    def test_a_folder_that_may_not_be_written(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        folder = tmp_path / "store"
        folder.mkdir(mode=0o555)
        if os.geteuid() == 0:  # root may write everywhere, so for a moment we are not
            tmp_path.chmod(0o755)
            for parent in tmp_path.parents[:3]:
                parent.chmod(parent.stat().st_mode | 0o055)
            os.seteuid(65_534)
            try:
                self._refused(Store(str(folder)))
            finally:
                os.seteuid(0)
        else:
            self._refused(Store(str(folder)))

    def _refused(self, store: Store) -> None:
        with pytest.raises(StoreError, match="could not write '7/1/a': PermissionError"):
            store.write("7/1/a", b"x")

    def test_a_file_larger_than_the_system_allows(self, tmp_path: Path) -> None:
        store = Store(str(tmp_path / "store"))
        store.write("7/1/a", b"old")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            with pytest.raises(StoreError, match="File too large"):
                store.write("7/1/a", b"x" * (2 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.read("7/1/a") == b"old"
        assert [path.name for path in (tmp_path / "store/7/1").iterdir()] == ["a"]

    def test_a_file_system_that_is_really_full(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        """A tmpfs of 64 kB, where tests may mount one."""
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
        try:
            store = Store(str(disk / "store"))
            store.write("1/0/old", b"x" * 30_000)
            outcome = run(make_spec(hidden=[256, 256], epochs=4), store)
            assert isinstance(outcome, TrainResult)
            assert "No space left on device" in outcome.environment["checkpoint_missed"]
            assert not store.exists("1/1/last.safetensors")
            assert store.read("1/0/old") == b"x" * 30_000
            assert not list((disk / "store/1/1").iterdir())  # nor is half of one left
        finally:
            subprocess.run(["umount", str(disk)], check=True)
