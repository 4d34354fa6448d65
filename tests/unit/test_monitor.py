"""/metrics and /healthz of the scheduler, and the dashboard and rules that use them."""

import json
import logging
import math
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from sqlalchemy.orm import Session

from db import extension, gauges, migrate, removal
from db import workers as register
from db.session import Database
from jobs.errors import DatabaseAway, SettingsError, StoreError
from jobs.settings import Settings
from scheduler import monitor
from scheduler.pulse import AWAY_SECONDS, Pulse
from scheduler.round import STEPS, Round
from scheduler.service import Service
from scheduler.steps import Steps
from workers import health

ROOT = Path(__file__).parents[2]
IDLE = Round(due=0, rescued=0, closed=0, removed=0, rung=0)


class Clock:
    """Seconds as the test wants them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestHealth:
    def test_a_loop_that_goes_round_is_well(self) -> None:
        clock = Clock()
        pulse = Pulse(1.0, clock)
        for clock.now in range(0, 600, 10):
            pulse.done(IDLE, 0.1)
        assert pulse.trouble() is None

    def test_a_loop_that_stalls_is_not(self) -> None:
        clock = Clock()
        pulse = Pulse(1.0, clock)
        clock.now = 80.0  # a statement may take so long
        assert pulse.trouble() is None or "stalls" not in str(pulse.trouble())
        clock.now = 200.0
        assert pulse.trouble() == "the loop stalls: no round has ended for 200 s"
        pulse.done(IDLE, 0.1)
        assert pulse.trouble() is None

    def test_a_slow_tick_has_a_longer_patience(self) -> None:
        clock = Clock()
        pulse = Pulse(60.0, clock)
        clock.now = 1_000.0
        assert "stalls" not in str(pulse.trouble())

    def test_a_database_that_is_away_for_a_moment_is_no_trouble_and_for_long_it_is(self) -> None:
        clock = Clock()
        pulse = Pulse(1.0, clock)
        for clock.now in range(1, int(AWAY_SECONDS) + 1):
            pulse.failed(DatabaseAway("no route to host"), away=True)
            assert pulse.trouble() is None
        clock.now += 5.0
        pulse.failed(DatabaseAway("no route to host"), away=True)
        assert pulse.trouble() == "no round has succeeded for 65 s: DatabaseAway: no route to host"

    def test_a_scheduler_whose_rounds_are_far_apart_or_long_is_well(self) -> None:
        clock = Clock()
        pulse = Pulse(70.0, clock)
        for clock.now in (1.0, 66.0, 71.0, 140.0, 141.0):
            assert pulse.trouble() is None
            pulse.done(IDLE, 0.1)
        clock = Clock()
        pulse = Pulse(1.0, clock)
        pulse.failed(DatabaseAway("no route to host"), away=True)
        pulse.done(IDLE, 0.1)
        clock.now = 61.0  # a round that takes so long and has not failed
        assert pulse.trouble() is None

    def test_a_database_that_came_back_is_trouble_no_more(self) -> None:
        clock = Clock()
        pulse = Pulse(1.0, clock)
        clock.now = 65.0
        pulse.failed(DatabaseAway("no route to host"), away=True)
        assert pulse.trouble() is not None
        pulse.done(IDLE, 0.1)
        assert pulse.trouble() is None


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/gridyard.db")
    migrate.upgrade(database)
    yield database
    database.close()


class Asked:
    """A scheduler that is not running, but answers."""

    def __init__(self, database: Database, pulse: Pulse) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.pulse = pulse
        self.serving = monitor.serving(Settings(monitor=str(self.port)), database, pulse)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def values(self) -> dict[tuple[str, ...], float]:
        """Name and label values → value."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {
            (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
        }


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asked(database: Database, clock: Clock) -> Iterator[Asked]:
    asked = Asked(database, Pulse(1.0, clock))
    with asked.serving:
        yield asked


class TestAsked:
    def test_health_is_a_status_and_a_reason(self, asked: Asked, clock: Clock) -> None:
        code, body = asked.get("/healthz")
        assert (code, json.loads(body)) == (200, {"ok": True, "trouble": None, "failing": {}})
        clock.now = 1_000.0
        code, body = asked.get("/healthz")
        assert code == 503
        assert json.loads(body)["trouble"].startswith("the loop stalls")

    def test_health_tells_no_password(self, asked: Asked, clock: Clock) -> None:
        clock.now = 100.0
        asked.pulse.failed(DatabaseAway("database postgresql://yard:s3cret@db/yard: gone"), away=True)
        asked.pulse.step_failed("retention", StoreError("store s3://yard:s3cret@store: gone"))
        clock.now = 200.0
        told = asked.get("/healthz")[1]
        assert "StoreError" in told
        assert "s3cret" not in told

    def test_a_step_that_fails_is_counted_at_once_and_told_after_a_while(self, asked: Asked, clock: Clock) -> None:
        for clock.now in (0.0, 1.0, AWAY_SECONDS - 1.0):
            asked.pulse.done(IDLE, 0.1)
            asked.pulse.step_failed("retention", StoreError("it is full"))
            assert json.loads(asked.get("/healthz")[1])["failing"] == {}
        clock.now = AWAY_SECONDS
        code, body = asked.get("/healthz")
        told = {"retention": "for 60 s: StoreError: it is full"}
        assert (code, json.loads(body)) == (200, {"ok": True, "trouble": None, "failing": told})
        found = asked.values()
        assert [found["gridyard_step_failures_total", step] for step in ("retention", "removal")] == [3, 0]
        asked.pulse.step_done("retention")
        assert json.loads(asked.get("/healthz")[1])["failing"] == {}

    def test_nothing_else_is_there(self, asked: Asked) -> None:
        assert asked.get("/")[0] == 404

    def test_rounds_bells_and_rescues_are_counted(self, asked: Asked) -> None:
        asked.pulse.done(Round(due=1, rescued=2, closed=3, removed=0, rung=4), 0.1)
        asked.pulse.failed(DatabaseAway("gone"), away=True)
        found = asked.values()
        assert found["gridyard_rounds_total", "done"] == 1
        assert found["gridyard_rounds_total", "database away"] == 1
        assert found["gridyard_due_total",] == 1
        assert found["gridyard_rescues_total",] == 2
        assert found["gridyard_sweeps_closed_total",] == 3
        assert found["gridyard_bells_total",] == 4

    def test_attempts_of_all_workers_are_summed_up_since_the_start(self, database: Database) -> None:
        def beat(worker: str, **attempts: int) -> None:
            with database.writing() as session:
                register.heartbeat(session, worker, slots=1, busy=0, info={"attempts": attempts})

        with database.writing() as session:
            for worker in ("a", "b"):
                register.register(session, worker, "cpu", 1, {})
        beat("a", succeeded=100)  # before we came
        asked = Asked(database, Pulse(1.0))
        with asked.serving as count:
            count()
            beat("a", succeeded=103)
            beat("b", succeeded=2, error=1)
            asked.values()
            found = asked.values()
        assert found["gridyard_attempts_total", "succeeded"] == 5
        assert found["gridyard_attempts_total", "error"] == 1
        assert found["gridyard_workers", "cpu"] == 2
        assert ("gridyard_attempts_total", "lost") not in found  # no worker lives to count that

    def test_the_first_look_is_made_while_nobody_else_looks(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The port answers already: two looks at once would count the same attempts twice."""
        yard, look, alone = monitor.Yard(database), gauges.look, list[bool]()

        def seen(session: Session) -> gauges.Gauges:
            alone.append(yard._lock.locked())
            return look(session)

        monkeypatch.setattr(gauges, "look", seen)
        yard.begin()
        list(yard.collect())
        assert alone == [True, True]

    def test_without_the_database_it_says_so_and_the_rest(
        self, asked: Asked, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert asked.values()["gridyard_database_up",] == 1
        monkeypatch.setattr(gauges, "look", lambda _: (_ for _ in ()).throw(DatabaseAway("gone")))
        found = asked.values()
        assert found["gridyard_database_up",] == 0
        assert ("gridyard_bells_total",) in found


def test_the_loop_tells_its_pulse(database: Database, tmp_path: Path) -> None:
    service = Service(database, Settings(home=tmp_path))

    class OneRound:
        rounds = 0

        def is_set(self) -> bool:
            return self.rounds > 0

        def wait(self, _: float) -> None:
            self.rounds += 1

    service.run(OneRound())  # type: ignore[arg-type]
    assert service.pulse.registry.get_sample_value("gridyard_rounds_total", {"end": "done"}) == 1


class TestSteps:
    @staticmethod
    def failures(service: Service) -> dict[str, float | None]:
        read = service.pulse.registry.get_sample_value
        return {step: read("gridyard_step_failures_total", {"step": step}) for step in STEPS}

    def test_one_that_fails_each_time_is_counted_each_time_and_said_once_and_the_round_goes_on(
        self, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = Service(database, Settings(home=tmp_path))
        with monkeypatch.context() as patch:
            patch.setattr(service, "_remove_abandoned", lambda: 1 // 0)
            for _ in range(3):
                service.tick()
        assert self.failures(service) == {"removal": 3, "extension": 0, "retention": 0, "bells": 0}
        (line,) = [record for record in caplog.records if "nothing is removed" in record.getMessage()]
        assert line.levelname == "ERROR"
        assert line.exc_info
        with caplog.at_level(logging.INFO):
            service.tick()
        assert "nothing is removed: that is over, after " in caplog.text
        assert self.failures(service)["removal"] == 3

    def test_a_part_that_fails_keeps_no_other_from_its_turn_and_its_step_has_failed(self) -> None:
        clock = Clock()
        pulse = Pulse(1.0, clock)
        steps, turns = Steps(pulse), 0
        for clock.now in (0.0, 100.0):
            with steps.turn("removal"):
                with steps.part("removal", "sweep 7 is not removed"):
                    raise StoreError("it is full")
                turns += 1
        assert (turns, pulse.failing()) == (2, {"removal": "for 100 s: StoreError: it is full"})
        with steps.turn("removal"), steps.part("removal", "sweep 7 is not removed"):
            pass
        assert pulse.failing() == {}

    def test_a_part_that_failed_and_was_seen_to_elsewhere_is_over(
        self, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A user has deleted one sweep, and extended the other."""
        service = Service(database, Settings(home=tmp_path, store="nonsense://"))
        service._keep_at, waiting = math.inf, {7, 8}
        for module in (removal, extension):
            monkeypatch.setattr(module, "abandoned", lambda _: sorted(waiting))
        monkeypatch.setattr("scheduler.extend.carry_on", lambda *_, **__: 1 // 0)
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                service.tick()
            assert "that is over" not in caplog.text
            waiting.remove(7)
            service.tick()
        told = [message.partition(", after")[0] for message in caplog.messages if "that is over" in message]
        assert told == [f"sweep 7 is not {undone}: that is over" for undone in ("removed", "extended")]
        failing = [("extension", "sweep 8 is not extended"), ("removal", "sweep 8 is not removed")]
        assert sorted(service._steps._troubles) == failing

    def test_a_database_that_is_away_is_no_failure_of_a_step(self) -> None:
        pulse = Pulse(1.0, Clock())
        with pytest.raises(DatabaseAway), Steps(pulse).turn("removal"):
            raise DatabaseAway("gone")
        assert pulse.registry.get_sample_value("gridyard_step_failures_total", {"step": "removal"}) == 0


def test_a_port_that_is_taken_is_named(asked: Asked, database: Database) -> None:
    taken = monitor.serving(Settings(monitor=str(asked.port)), database, Pulse(1.0))
    with pytest.raises(SettingsError, match=f"GRIDYARD_MONITOR = '{asked.port}': .*a free port"), taken:
        pass


@pytest.mark.parametrize(
    ("given", "address"),
    [("", None), ("9464", ("127.0.0.1", 9464)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:80", ("::1", 80))],
)
def test_a_port_alone_is_open_to_this_machine_only(given: str, address: tuple[str, int] | None) -> None:
    assert Settings(monitor=given).monitor_address == address


@pytest.mark.parametrize("given", ["http", "localhost", "0", "99999", "host:"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="allowed are a port"):
        Settings(monitor=given)


class TestWatchers:
    """Grafana and Prometheus cannot be started here: their files use only what is served, with labels that it has."""

    @pytest.fixture
    def served(self, asked: Asked, database: Database) -> dict[str, set[str]]:
        with database.writing() as session:
            register.register(session, "a", "cpu", 1, {})
        families = text_string_to_metric_families(asked.get("/metrics")[1])
        served: dict[str, set[str]] = {"up": {"job"}}
        for family in families:
            for sample in family.samples:
                served.setdefault(sample.name, set()).update(sample.labels)
        # No samples of an empty yard:
        return served | {"gridyard_queue_oldest_seconds": {"queue"}, "gridyard_sweeps": {"state"}}

    @staticmethod
    def wrong(expression: str, served: dict[str, set[str]]) -> list[str]:
        """What of an expression is not served."""
        expression = expression.replace("$__rate_interval", "1m")
        found = re.findall(r"\b(up|gridyard_\w+)\b(?:\{([^}]*)\})?", expression)
        wrong = [name for name, _ in found if name not in served]
        for name, conditions in found:
            labels = set(re.findall(r"(\w+)\s*=~?", conditions))
            wrong += [f"{name}{{{label}}}" for label in labels - served.get(name, set()) - {"job"}]
        return wrong if found else [expression]

    def test_the_dashboard_shows_only_what_is_served(self, served: dict[str, set[str]]) -> None:
        dashboard = json.loads((ROOT / "deploy/grafana/dashboards/gridyard.json").read_text())
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        assert len(expressions) > 15
        assert [self.wrong(expression, served) for expression in expressions] == [[]] * len(expressions)
        places = [panel["gridPos"] for panel in dashboard["panels"]]
        assert len({(place["x"], place["y"]) for place in places}) == len(places)
        assert {panel["id"] for panel in dashboard["panels"]} == set(range(1, len(places) + 1))

    def test_the_rules_use_only_what_is_served(self, served: dict[str, set[str]]) -> None:
        (group,) = YAML(typ="safe").load(ROOT / "deploy/prometheus/rules.yml")["groups"]
        assert [self.wrong(rule["expr"], served) for rule in group["rules"]] == [[]] * len(group["rules"])
        assert all(rule["annotations"]["summary"] for rule in group["rules"])

    def test_a_name_that_is_not_served_is_found(self, served: dict[str, set[str]]) -> None:
        assert self.wrong('sum(gridyard_jobs{quue="a"}) + gridyard_job', served)

    def test_they_ask_where_the_scheduler_and_prometheus_are(self) -> None:
        read = YAML(typ="safe").load
        compose = read(ROOT / "docker-compose.yml")["services"]
        port = compose["scheduler"]["environment"]["GRIDYARD_MONITOR"].rpartition(":")[2]
        (scrape,) = read(ROOT / "deploy/prometheus/prometheus.yml")["scrape_configs"]
        assert scrape["static_configs"] == [{"targets": [f"scheduler:{port}"]}]
        (source,) = read(ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
        dashboard = json.loads((ROOT / "deploy/grafana/dashboards/gridyard.json").read_text())
        assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
        assert "prometheus" in compose


class TestHealthOfAWorker:
    def test_a_file_that_was_just_touched_says_that_it_lives(self, tmp_path: Path) -> None:
        file = str(tmp_path / "health")
        assert "no worker has touched" in str(health.trouble(file))
        health.touch(file)
        assert health.trouble(file) is None
        os.utime(file, (1_000.0, 1_000.0))
        assert str(health.trouble(file)).startswith("no heartbeat for ")
        health.touch(file)
        assert health.trouble(file) is None
