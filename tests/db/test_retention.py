"""What succeeded jobs leave goes as their sweep wants it: checkpoints at once, models that N others are better than."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from db import claiming, ending, leaderboard, removal, results, retention, status, steering, upkeep
from db.models import Job, Kept, Model
from db.retention import Retention
from db.session import Database
from jobs.errors import DatabaseError, NotFound, StoreError
from jobs.settings import Settings
from jobs.spec import BestModel, Failure, Keep, TrainResult
from jobs.states import FailureReason
from jobs.store import Store, best_path
from scheduler.service import Service

AddSweep = Callable[..., int]
Succeed = Callable[..., list[int]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def succeed(database: Database, store: Store, result: Callable[..., TrainResult]) -> Succeed:
    """succeed(sweep, 0.9, 0.8): its next jobs succeed with these scores, models of 100 bytes and a checkpoint.

    One after the other; with `backwards` the last one first.
    """

    def act(sweep: int, *scores: float, in_store: bool = False, backwards: bool = False) -> list[int]:
        with database.writing() as session:
            claims = claiming.claim(session, "cpu", "w", 60.0, limit=len(scores), first=sweep)
        assert len(claims) == len(scores)
        for claim, score in sorted(zip(claims, scores, strict=True), key=lambda one: one[0].job, reverse=backwards):
            path = best_path(claim.job, claim.attempt)
            kept: dict[str, Any] = {"path": path} if in_store else {"content": b"x" * 100}
            if in_store:
                store.write(path, b"x" * 100)
            store.write(f"{claim.job}/{claim.attempt}/last.safetensors", b"y")
            ended = result(claim.job, score).__dict__ | {"best": BestModel(sha256="0", size=100, **kept)}
            with database.writing() as session:
                assert ending.finish(session, [(claim, TrainResult(**ended))])
        return [claim.job for claim in claims]

    return act


def tidy(database: Database, store: Store) -> None:
    retention = Retention(database, store)
    while retention.step():
        pass


def with_models(database: Database) -> list[int]:
    with database.reading() as session:
        return list(session.scalars(select(Model.job_id).where(Model.freed_at.is_(None)).order_by(Model.job_id)))


def files(store: Store) -> list[str]:
    return sorted(file.path for file in store.files())


def test_a_job_that_succeeds_keeps_its_model_and_no_checkpoint_of_any_attempt(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    sweep = add_sweep(2)
    with database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "w", 60.0)
        store.write(f"{claim.job}/1/last.safetensors", b"y")
        store.write(f"{claim.job}/1/best.safetensors", b"of an attempt that never told its end")
        ending.let_go(session, [(claim, None)])
    first, second = succeed(sweep, 0.5, 0.6, in_store=True)
    tidy(database, store)
    assert files(store) == sorted([best_path(first, 2), best_path(second, 1)])
    assert with_models(database) == [first, second]


def test_of_equal_jobs_the_first_of_the_sweep_is_the_best_and_keeps_its_model_whoever_finished_first(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    sweep = add_sweep(3, keep=Keep(best=1))
    first, *_ = succeed(sweep, 0.5, 0.5, 0.5, backwards=True)
    tidy(database, store)
    assert with_models(database) == [first]
    with database.reading() as session:
        assert leaderboard.top(session, sweep=sweep)[0].job == first
        assert status.sweep_status(session, sweep).best_job == first


def test_without_files_no_folder_is_left(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    succeed(add_sweep(2), 0.5, 0.6)
    tidy(database, store)
    assert list(Path(store.url).iterdir()) == []


def test_jobs_that_failed_or_run_keep_their_checkpoints(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    sweep = add_sweep(3)
    with database.writing() as session:
        failed, running = claiming.claim(session, "cpu", "w", 60.0, limit=2)
        for claim in (failed, running):
            store.write(f"{claim.job}/1/last.safetensors", b"y")
        ending.let_go(session, [(failed, Failure(job=failed.job, reason=FailureReason.DIVERGED, error="nan"))])
    succeed(sweep, 0.5)
    tidy(database, store)
    assert files(store) == [f"{claim.job}/1/last.safetensors" for claim in (failed, running)]


def test_a_sweep_may_keep_its_last_checkpoints(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    better, worse = succeed(add_sweep(2, keep=Keep(best=1, last=True)), 0.9, 0.1, in_store=True)
    tidy(database, store)
    assert files(store) == sorted([best_path(better, 1), *(f"{job}/1/last.safetensors" for job in (better, worse))])


@pytest.mark.parametrize("in_store", [False, True])
def test_models_below_the_best_are_freed_and_their_numbers_kept(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store, in_store: bool
) -> None:
    sweep = add_sweep(4, keep=Keep(best=2))
    jobs = succeed(sweep, 0.5, 0.9, 0.7, float("nan"), in_store=in_store)
    tidy(database, store)
    assert with_models(database) == jobs[1:3]
    assert files(store) == sorted(best_path(job, 1) for job in jobs[1:3] if in_store)
    with database.reading() as session:
        assert [row.job for row in leaderboard.top(session, sweep=sweep)] == [jobs[1], jobs[2], jobs[0], jobs[3]]
        details = results.job_details(session, jobs[0])
        assert (details.score, len(details.history), details.artifacts[0].place) == (0.5, 2, "freed")
        assert details.artifacts[0].size == 100
        with pytest.raises(NotFound, match=rf"the model of job {jobs[0]} was freed on .* `gridyard repeat {jobs[0]}`"):
            results.best_model(session, jobs[0])
        assert session.scalars(select(Kept.job_id).order_by(Kept.job_id)).all() == jobs[1:3]
        freed = select(Model.job_id, Model.path).where(Model.freed_at.is_not(None))
        assert {row.job_id: row.path for row in session.execute(freed)} == {job: best_path(job, 1) for job in jobs[::3]}


def test_while_a_sweep_runs_a_model_goes_only_when_so_many_better_ones_are_there(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    sweep, kept = add_sweep(6, keep=Keep(best=2)), []
    for score in (0.1, 0.2, 0.3, 0.05, 0.9, 0.25):
        succeed(sweep, score)
        tidy(database, store)
        with database.reading() as session:
            best = [row.job for row in leaderboard.top(session, sweep=sweep, limit=2)]
        assert with_models(database) == sorted(best)
        kept.append(len(best))
    assert kept == [1, 2, 2, 2, 2, 2]


def test_equal_scores_are_kept_in_the_leaderboards_order(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    sweep = add_sweep(5, keep=Keep(best=3))
    for _ in range(5):
        succeed(sweep, 0.5)
    tidy(database, store)
    with database.reading() as session:
        assert with_models(database) == sorted(row.job for row in leaderboard.top(session, sweep=sweep, limit=3))


def test_sweeps_are_ranked_apart_and_one_that_keeps_all_keeps_all(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    small, none, all_ = (add_sweep(2, keep=Keep(best=best)) for best in (1, 0, None))
    kept = [succeed(small, 0.1, 0.2)[1]]
    succeed(none, 0.9, 0.9)
    kept += succeed(all_, 0.01, 0.02)
    tidy(database, store)
    assert with_models(database) == kept


def test_many_are_freed_in_short_steps(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    sweep = add_sweep(20, keep=Keep(best=2))
    jobs = succeed(sweep, *(n / 20 for n in range(20)))
    steps = Retention(database, store)
    left = []
    while steps.step():
        left.append(len(with_models(database)))
    assert all(before - after <= 3 for before, after in itertools.pairwise(left))
    assert with_models(database) == jobs[-2:]
    assert files(store) == []
    monkeypatch.setattr(retention, "BYTES_AT_ONCE", 150)
    with database.writing() as session:
        assert len(retention.free(session, sweep, 0)) == 2


def test_who_dies_between_the_database_and_the_store_leaves_no_file_for_ever(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    worse, better = succeed(add_sweep(2, keep=Keep(best=1)), 0.1, 0.9, in_store=True)
    with database.writing() as session:  # and here it dies
        assert retention.free(session, 1, 1) == [worse]
    assert best_path(worse, 1) in files(store)
    tidy(database, store)  # another scheduler
    assert files(store) == [best_path(better, 1)]


def test_the_scheduler_does_it_and_a_store_that_is_away_is_asked_again_later(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(add_sweep(1), 0.5)
    scheduler = Service(database, Settings(store=store.url))

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove_attempts", refuse)
        scheduler.tick()
    scheduler.tick()
    assert len(files(store)) == 1  # it waits
    failures = scheduler.pulse.registry.get_sample_value("gridyard_step_failures_total", {"step": "retention"})
    assert failures == 1
    monkeypatch.setattr(scheduler, "_keep_at", 0.0)
    scheduler.tick()
    assert files(store) == []


def test_files_of_a_later_attempt_are_left_alone(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    (job,) = succeed(add_sweep(1, keep=Keep(best=0)), 0.5)
    store.write(f"{job}/2/last.safetensors", b"z")
    store.write(f"{job}/notes/mine.txt", b"not ours")
    tidy(database, store)
    assert files(store) == [f"{job}/2/last.safetensors"]
    assert (Path(store.url) / str(job) / "notes" / "mine.txt").exists()


def test_two_who_tidy_at_once_do_no_harm(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    jobs = succeed(add_sweep(6, keep=Keep(best=2)), *(n / 10 for n in range(6)), in_store=True)
    first, second = Retention(database, store), Retention(database, Store(store.url))
    while first.step() | second.step():
        pass
    assert files(store) == sorted(best_path(job, 1) for job in jobs[-2:])
    assert with_models(database) == jobs[-2:]


def test_a_sweep_that_is_deleted_takes_what_it_kept_along(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    sweep = add_sweep(3, keep=Keep(best=1))
    succeed(sweep, 0.1, 0.2, 0.3, in_store=True)
    with database.writing() as session:
        upkeep.close_finished(session)
        removal.mark(session, sweep)
    removal.remove(database, sweep, store)
    tidy(database, store)
    with database.reading() as session:
        assert session.scalars(select(Kept.job_id)).all() == []
    assert files(store) == []


def test_a_store_of_objects_is_tidied_as_a_folder_is(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    memory = Store(f"memory://{database.engine.url.database}")
    worse, better = succeed(add_sweep(2, keep=Keep(best=1)), 0.1, 0.9)
    for job in (worse, better):
        memory.write(f"{job}/1/last.safetensors", b"y")
        memory.write(best_path(job, 1), b"x")
    with database.writing() as session:
        session.execute(update(Model).values(content=None, path=best_path(better, 1)).where(Model.job_id == better))
    tidy(database, memory)
    assert files(memory) == [best_path(better, 1)]


def test_a_store_of_objects_is_listed_for_many_jobs_and_not_while_a_listing_rests(
    database: Database, add_sweep: AddSweep, succeed: Succeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million objects a listing takes a minute: a few jobs are looked at one by one instead."""
    memory, listings = Store(f"memory://{database.engine.url.database}"), list[set[int]]()
    list_jobs = memory.jobs
    monkeypatch.setattr(memory, "jobs", lambda: listings.append(list_jobs()) or listings[-1])
    remove, looked_at = memory.remove_attempts, list[int]()

    def removing(job: int, *given: Any, **kept: Any) -> None:
        looked_at.append(job)
        remove(job, *given, **kept)

    monkeypatch.setattr(memory, "remove_attempts", removing)
    monkeypatch.setattr(retention, "FEWEST", 2)
    monkeypatch.setattr(retention, "LIST_REST", 1e12)
    steps, sweep = Retention(database, memory), add_sweep(20)
    listed = list[int]()
    for number in (2, 5, 5):
        jobs = succeed(sweep, *[0.5] * number)
        for job in jobs[1:4]:
            memory.write(f"{job}/1/last.safetensors", b"y")
        looked_at.clear()
        steps.step()
        assert files(memory) == []
        is_new = len(listings) > (listed or [0])[-1]
        assert looked_at == (jobs[1:4] if is_new else jobs), "one that a listing does not show is not asked for"
        listed.append(len(listings))
    assert listed == [0, 1, 1]


def test_a_freed_model_cannot_be_half_there(database: Database, add_sweep: AddSweep, succeed: Succeed) -> None:
    succeed(add_sweep(1), 0.5)
    with pytest.raises(DatabaseError, match="place"), database.writing() as session:
        session.execute(update(Model).values(content=None))


def test_jobs_of_older_versions_are_tidied_and_their_models_kept(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    jobs = succeed(add_sweep(2, keep=Keep()), 0.1, 0.2)
    with database.writing() as session:  # as the migration does it
        session.execute(text("DELETE FROM kept"))
        session.execute(
            text(
                "INSERT INTO kept (job_id, sweep_id, attempt, size, rank_key, finished_at, due)"
                " SELECT jobs.id, jobs.sweep_id, models.attempt, models.size, jobs.rank_key, jobs.finished_at, true"
                " FROM jobs JOIN models ON models.job_id = jobs.id WHERE jobs.state = 'succeeded'"
            )
        )
        assert session.scalars(select(Job.state)).all() == ["succeeded"] * 2
    tidy(database, store)
    assert with_models(database) == jobs
    assert files(store) == []


def test_the_database_knows_whose_files_are_needed(database: Database, add_sweep: AddSweep, succeed: Succeed) -> None:
    sweep = add_sweep(3)
    with database.reading() as session:
        greatest = retention.greatest_job(session)
    (job,) = succeed(sweep, 0.5, in_store=True)
    with database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "w", 60.0)
        uid = claim.spec.sweep_uid
        waiting = {(uid, claim.job, 1), (uid, claim.job, 2), (uid, job, 1), ("another", job, 1), (uid, 99, 1)}
        assert retention.counts_no_more(session, waiting) == {(uid, claim.job, 2), (uid, job, 1)}
        found = retention.owners(session, [job, claim.job, 99])
        assert (found[job].ended, found[job].model, found[claim.job].ended) == (True, best_path(job, 1), False)
        assert set(found) == {job, claim.job}
        assert greatest == max(session.scalars(select(Job.id)))
        assert retention.models(session, sweep) == retention.Models(kept=1, bytes=100, more=False)
        assert retention.below(session, sweep, 0) == (1, 100)
    with database.writing() as session:
        steering.cancel_sweep(session, sweep)
        ending.let_go(session, [(claim, None)])
        removal.mark(session, sweep)
    removal.remove(database, sweep)
    with database.reading() as session:
        assert retention.greatest_job(session) == greatest


def test_an_end_of_a_lost_attempt_counts_until_somebody_claims_the_job(database: Database, add_sweep: AddSweep) -> None:
    add_sweep(1)
    with database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "w", 60.0)
        waiting = {(claim.spec.sweep_uid, claim.job, 1)}
        assert upkeep.rescue(session, "w") == 1
        assert retention.counts_no_more(session, waiting) == set()
        assert claiming.claim(session, "cpu", "w", 60.0)
        assert retention.counts_no_more(session, waiting) == waiting


def test_a_store_that_is_slow_holds_nobody_up(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "FEWEST", 2)
    sweeps = [add_sweep(3, keep=Keep(best=1)) for _ in range(3)]
    jobs = [job for sweep in sweeps for job in succeed(sweep, 0.1, 0.2, 0.3, in_store=True)]
    steps, left = Retention(database, store), [len(files(store))]
    while steps.step(deadline=0.0):
        left.append(len(files(store)))
    assert all(0 <= before - after <= 2 * 2 for before, after in itertools.pairwise(left))
    assert with_models(database) == jobs[2::3]
    assert files(store) == sorted(best_path(job, 1) for job in jobs[2::3])


def test_a_job_that_trains_more_epochs_keeps_its_checkpoint_until_it_has_succeeded_again(
    database: Database, add_sweep: AddSweep, succeed: Succeed, store: Store
) -> None:
    (job,) = succeed(add_sweep(1), 0.5, in_store=True)
    with database.writing() as session:
        session.execute(update(Job).values(state="ready"))
    tidy(database, store)
    assert files(store) == [best_path(job, 1), f"{job}/1/last.safetensors"]
    assert succeed(1, 0.6, in_store=True) == [job]
    tidy(database, store)
    assert files(store) == [best_path(job, 2)]
