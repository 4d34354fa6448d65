"""An extension adds what a sweep does not have, whole, while its workers go on; what it has stays as it is."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from db import ending, extension, steering, upkeep
from db.clock import now
from db.models import Sweep
from db.session import Database
from jobs.errors import InputError, NotFound
from jobs.settings import Settings
from jobs.spec import Failure
from jobs.states import FailureReason, SweepState
from scheduler import extend as extending
from scheduler import service, sweep_file
from scheduler.extend import Extended, carry_on, extend
from scheduler.service import Service
from scheduler.submit import submit
from tests.extensions import cells, claim, finish, rows, stand, submitted


class TestValues:
    def test_old_cells_keep_their_numbers_and_new_ones_follow(self, database: Database) -> None:
        sweep = submitted(database)
        before = [(job.id, job.cell, job.seed, job.params) for job in rows(database, sweep)]
        given = extend(database, sweep, {"grid": {"lr": [0.2, 0.3]}})
        assert given == Extended(sweep=sweep, cells=2, jobs=4, again=0, queue="cpu")
        after = [(job.id, job.cell, job.seed, job.params) for job in rows(database, sweep)]
        assert after[:8] == before
        assert cells(database, sweep)[8:] == [
            (cell, seed, 0.3, hidden) for cell, hidden in ((4, [8]), (5, [16])) for seed in (0, 1)
        ]
        assert stand(database, sweep).total == stand(database, sweep).jobs["ready"] == 12

    def test_an_extension_of_an_extension_adds_what_is_not_there(self, database: Database) -> None:
        sweep = submitted(database, seeds=1)
        extend(database, sweep, {"grid": {"lr": [0.3]}})
        extend(database, sweep, {"grid": {"hidden": [[4]], "lr": [0.4]}})
        found = cells(database, sweep)
        assert [cell for cell, *_ in found] == list(range(12))
        assert {(lr, str(hidden)) for _, _, lr, hidden in found} == {
            (lr, str(hidden)) for lr in (0.1, 0.2, 0.3, 0.4) for hidden in ([4], [8], [16])
        }

    def test_repeating_it_changes_nothing(self, database: Database) -> None:
        sweep, keys = submitted(database), {"grid": {"lr": [0.3, 0.1]}, "seeds": 3, "epochs": 10}
        assert extend(database, sweep, keys).jobs == 10
        before = [job.id for job in rows(database, sweep)]
        again = extend(database, sweep, keys)
        assert (again.cells, again.jobs, again.again) == (0, 0, 0)
        assert [job.id for job in rows(database, sweep)] == before

    def test_new_jobs_of_one_shape_are_a_pack(self, database: Database) -> None:
        sweep = submitted(database)
        extend(database, sweep, {"grid": {"lr": [0.3, 0.4]}})
        packs = {(job.cell >= 4, str(job.params["hidden"])): set[int]() for job in rows(database, sweep)}
        for job in rows(database, sweep):
            packs[job.cell >= 4, str(job.params["hidden"])].add(job.pack)
        assert {len(found) for found in packs.values()} == {1}
        assert len({min(found) for found in packs.values()}) == 4

    def test_listed_cells_are_added(self, database: Database) -> None:
        keys = {"task": "iris", "cells": [{"lr": 0.1}, {"lr": 0.2}], "fixed": {"hidden": [9]}}
        sweep = submit(database, sweep_file.parse(keys)).sweep
        given = extend(database, sweep, {"cells": [{"lr": 0.2}, {"lr": 0.3}, {"lr": 0.1, "hidden": [9]}]})
        assert (given.cells, given.jobs) == (1, 1)  # the last one trains what the second does
        assert [job.params for job in rows(database, sweep)] == [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}]


class TestSeeds:
    def test_old_and_new_cells_get_them(self, database: Database) -> None:
        sweep = submitted(database)
        given = extend(database, sweep, {"grid": {"lr": [0.3]}, "seeds": [7, 1]})
        assert (given.cells, given.jobs) == (2, 2 * 3 + 4)
        assert {(cell, seed) for cell, seed, *_ in cells(database, sweep)} == {
            (cell, seed) for cell in range(6) for seed in (0, 1, 7)
        }
        packs: dict[int, set[int]] = {}
        for job in rows(database, sweep):
            packs.setdefault(job.cell, set()).add(job.pack)
        assert {len(found) for found in packs.values()} == {1}  # with the other seeds of their cell

    def test_of_many_cells_in_many_steps(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extending, "CHUNK", 7)
        sweep = submitted(database, grid={"lr": [n / 100 for n in range(1, 31)]})
        seen: list[tuple[int, int]] = []
        given = extend(
            database,
            sweep,
            {"grid": {"lr": [0.5, 0.6]}, "seeds": 5},
            progress=lambda done, total: seen.append((done, total)),
        )
        assert given.jobs == 2 * 5 + 30 * 3
        assert seen[-1] == (100, 100)
        assert len(seen) > 14
        assert {(cell, seed) for cell, seed, *_ in cells(database, sweep)} == {
            (cell, seed) for cell in range(32) for seed in range(5)
        }


class TestInterrupted:
    @pytest.fixture(autouse=True)
    def _small_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extending, "CHUNK", 3)
        monkeypatch.setattr(extending, "PAUSE", 0.0)

    def killed(self, database: Database, sweep: int, keys: dict[str, Any], at: int) -> None:
        def die(done: int, total: int) -> None:
            if done >= at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            extend(database, sweep, keys, progress=die)

    @pytest.mark.parametrize("at", [1, 5, 9, 14])
    def test_the_scheduler_does_the_rest(self, database: Database, tmp_path: Path, at: int) -> None:
        sweep, whole = submitted(database), submitted(database)
        keys = {"grid": {"lr": [0.3]}, "seeds": 4}
        self.killed(database, sweep, keys, at)
        extend(database, whole, keys)
        assert stand(database, sweep).extending
        scheduler = Service(database, Settings(home=tmp_path))
        assert scheduler.tick().extended == 0  # its extender may be alive
        with database.writing() as session:
            session.execute(update(Sweep).where(Sweep.id == sweep).values(touched_at=now(-1000)))
        assert scheduler.tick().extended == 1
        assert cells(database, sweep) == cells(database, whole)
        assert stand(database, sweep).jobs["ready"] == stand(database, sweep).total == 24
        assert not stand(database, sweep).extending

    def test_the_scheduler_does_some_in_each_round(
        self, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "REMOVING_SECONDS", 0.0)
        sweep = submitted(database)
        self.killed(database, sweep, {"seeds": 4}, at=2)
        with database.writing() as session:
            session.execute(update(Sweep).values(touched_at=now(-1000)))
        scheduler, rounds = Service(database, Settings(home=tmp_path)), 0
        while scheduler.tick().extended:
            rounds += 1
        assert rounds > 2
        assert stand(database, sweep).jobs["ready"] == stand(database, sweep).total == 16

    def test_or_who_asks_for_it_again(self, database: Database) -> None:
        sweep, keys = submitted(database), {"grid": {"lr": [0.3]}, "seeds": 4}
        self.killed(database, sweep, keys, at=6)
        assert extend(database, sweep, keys).jobs == 0
        assert stand(database, sweep).jobs["ready"] == stand(database, sweep).total == 24

    def test_its_workers_go_on_and_it_is_not_finished_before_it_is_whole(self, database: Database) -> None:
        sweep = submitted(database)
        self.killed(database, sweep, {"seeds": 4}, at=6)
        while claims := claim(database, limit=100):
            finish(database, claims)
        with database.writing() as session:
            assert upkeep.close_finished(session) == 0
        assert not stand(database, sweep).finished
        carry_on(database, sweep)
        while claims := claim(database, limit=100):
            finish(database, claims)
        with database.writing() as session:
            assert upkeep.close_finished(session) == 1
        assert stand(database, sweep).jobs["succeeded"] == 16

    def test_a_sweep_that_is_cancelled_meanwhile_is_cancelled_whole(self, database: Database) -> None:
        sweep = submitted(database)
        self.killed(database, sweep, {"seeds": 4}, at=6)
        with database.writing() as session:
            steering.cancel_sweep(session, sweep)
        carry_on(database, sweep)
        assert stand(database, sweep).jobs["cancelled"] == stand(database, sweep).total == 16
        assert stand(database, sweep).finished
        with database.writing() as session:
            assert steering.resume_sweep(session, sweep) == 16

    def test_who_thinks_that_it_is_whole_while_another_has_begun_does_not_end_that(self, database: Database) -> None:
        sweep = submitted(database)
        self.killed(database, sweep, {"seeds": 4}, at=2)
        with database.writing() as session:
            assert extension.prolong_some(session, sweep, extension.START, 10) == (extension.START, 0)
        assert stand(database, sweep).extending
        carry_on(database, sweep)
        assert stand(database, sweep).jobs["ready"] == 16

    def test_two_who_do_the_same_by_turns_do_it_once(self, database: Database) -> None:
        sweep = submitted(database)
        steps = extending._Steps(database, sweep, None)
        self.killed(database, sweep, {"seeds": 4}, at=3)
        while steps.step():
            carry_on(database, sweep, seconds=1e-9)
        assert stand(database, sweep).jobs["ready"] == stand(database, sweep).total == 16


class TestRefused:
    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"grid": {"lr": [-1]}}, r"grid.lr\[0\]: was given -1; allowed is a number, above 0"),
            ({"grid": {"lr": [0.3, 0.3]}}, "0.3 is given twice"),
            ({"grid": {"rl": [0.3]}}, 'grid.rl: is no parameter of it; did you mean "lr"'),
            ({"grid": {"dropout": [0.3]}}, r"grid.dropout: is the same for all cells, 0\.2\. Allowed: lr, hidden"),
            ({"grid": [0.3]}, "grid: was given .* allowed is a list of values for each parameter"),
            ({"cells": [{"lr": 0.3}]}, "cells: the sweep has a grid, of lr, hidden; give it values"),
            ({"seeds": 0}, "seeds: was given 0"),
            ({"epochs": 5}, "epochs: was given 5; the sweep has 10, and can only get more"),
            ({"epochs": "many"}, 'epochs: was given "many"'),
            ({"retries": 5}, "retries: cannot be extended.*Allowed: grid, cells, seeds, epochs"),
            ({"seeds": 10_000, "grid": {"lr": [n / 1000 for n in range(1, 1000)]}}, "jobs; allowed are"),
        ],
    )
    def test_what_is_wrong_is_told_and_nothing_changed(
        self, database: Database, keys: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRIDYARD_MAX_CELLS", "10000")
        sweep = submitted(database)
        with pytest.raises(InputError, match=f"(?s)extension of sweep {sweep}: .*nothing was changed.*{message}"):
            extend(database, sweep, keys)
        assert (stand(database, sweep).total, stand(database, sweep).extending) == (8, False)

    def test_a_cancelled_sweep_is_resumed_first(self, database: Database) -> None:
        sweep = submitted(database)
        with database.writing() as session:
            steering.cancel_sweep(session, sweep)
        with pytest.raises(InputError, match=f"is cancelled, and cannot be extended; `gridyard resume {sweep}` first"):
            extend(database, sweep, {"seeds": 3})

    def test_a_sweep_that_is_not_there(self, database: Database) -> None:
        with pytest.raises(NotFound, match="there is no sweep 9"):
            extend(database, 9, {"seeds": 3})

    def test_a_paused_sweep_stays_paused(self, database: Database) -> None:
        sweep = submitted(database)
        with database.writing() as session:
            steering.pause_sweep(session, sweep)
        assert extend(database, sweep, {"seeds": 3}).jobs == 4
        assert stand(database, sweep).state == SweepState.PAUSED
        assert claim(database) == []

    @pytest.mark.parametrize("end", ["cancelled", "cancelled while it trains", "failed"])
    def test_a_job_that_does_not_get_to_more_epochs_keeps_the_moment_of_its_result(
        self, database: Database, end: str
    ) -> None:
        sweep = submitted(database, grid={"lr": [0.1]}, seeds=1)
        finish(database, claim(database))
        (before,) = rows(database, sweep)
        assert extend(database, sweep, {"epochs": 20}).again == 1
        running = [] if end == "cancelled" else claim(database)
        with database.writing() as session:
            if end != "failed":
                steering.cancel_sweep(session, sweep)
            failure = Failure(job=before.id, reason=FailureReason.DIVERGED, error="nan") if end == "failed" else None
            ending.let_go(session, [(one, failure) for one in running])
        (after,) = rows(database, sweep)
        assert after.state == end.split()[0]
        assert after.finished_at == before.finished_at
