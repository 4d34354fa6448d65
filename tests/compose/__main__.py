"""`make compose-test`: docker-compose.yml under faults, in a Docker Engine; some minutes after the first build.

An argument is the number of epochs of a job: `make compose-test EPOCHS=150` on a machine that is busy or slow.

It builds, starts everything, submits from the host and from a container, scales 1 → 4 → 2 workers in the middle of a
sweep while containers are killed and Redis and PostgreSQL are restarted, and takes everything down and up again. Then
each job has exactly one final result, the leaderboard is the same before and after, and every score equals that of an
undisturbed run.
"""

import collections
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.compose.engine import PROJECT, ROOT, Compose, docker, missing, say, wait_until

SWEEP = "tests/compose/sweep.yaml"
RUNNING = ("postgres", "redis", "scheduler", "worker-cpu")
KILL = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"  # what its init has started


def main(epochs: str) -> int:
    if reason := missing():
        print(f"make compose-test needs a Docker Engine with Compose: {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        compose = Compose(Path(folder))
        compose("down", "--volumes", "--remove-orphans")  # of a test that was killed
        try:
            _test(compose, ("--set", f"epochs={epochs}"))
        except AssertionError as error:
            print(f"FAILED: {error}", file=sys.stderr)
            print(compose("logs", "--tail", "40", check=False).stdout[-8000:], file=sys.stderr)
            return 1
        finally:
            compose("down", "--volumes", "--remove-orphans", check=False)
    say("all of it held")
    return 0


def _test(compose: Compose, epochs: tuple[str, str]) -> None:
    _refuses_to_start_without_passwords(compose)
    _build(compose)
    compose("up", "--detach", "--scale", "worker-cpu=1")
    compose.wait_for_health(*RUNNING)
    say(f"up: {', '.join(RUNNING)} are healthy")
    _is_closed(compose)

    disturbed = compose.from_host("submit", SWEEP, *epochs)["sweep"]
    say(f"submitted from the host: sweep {disturbed}")
    _disturb(compose, disturbed)
    _wait_for_end(compose, disturbed)
    _each_job_has_one_result(compose, disturbed)
    before = compose.from_host("leaderboard", str(disturbed))

    compose("down")
    say("down: volumes stay")
    compose("up", "--detach", "--scale", "worker-cpu=2")
    compose.wait_for_health(*RUNNING)
    after = compose.from_host("leaderboard", str(disturbed))
    assert after == before, "another leaderboard after down and up"
    say(f"up again: the same leaderboard, {len(after)} rows, best {after[0]['score']:.6g} (job {after[0]['job']})")

    told = compose("run", "--rm", "-T", "gridyard", "submit", SWEEP, *epochs, "--json").stdout
    undisturbed = json.loads(told)["sweep"]
    say(f"submitted from a container: sweep {undisturbed}")
    _wait_for_end(compose, undisturbed)
    _each_job_has_one_result(compose, undisturbed)
    ranked = compose.from_host("leaderboard", str(undisturbed))
    assert _scores(ranked) == _scores(before), "an undisturbed run has other scores"
    say(f"all {len(ranked)} scores equal those of the undisturbed run, to the last digit")
    _tells_what_happens(compose)


def _refuses_to_start_without_passwords(compose: Compose) -> None:
    refused = compose("config", check=False, env_file="/dev/null")
    assert refused.returncode != 0, "compose starts without passwords"
    assert "PASSWORD is missing a value" in refused.stderr, refused.stderr
    say(f"without .env: {refused.stderr.strip().splitlines()[-1]}")


def _build(compose: Compose) -> None:
    began = time.monotonic()
    compose("build")
    size = int(docker("image", "inspect", "gridyard", "--format", "{{.Size}}"))
    say(f"built in {time.monotonic() - began:.0f} s; the image has {size / 1e9:.2f} GB")


def _is_closed(compose: Compose) -> None:
    """No port to the world, nobody is root, code is read-only, and no password is among any process's arguments."""
    for service in RUNNING:
        (one,) = compose.containers(service)
        host = one["HostConfig"]
        opened = [binding["HostIp"] for bindings in (host["PortBindings"] or {}).values() for binding in bindings]
        assert set(opened) <= {"127.0.0.1"}, f"{service} is open on {opened}"
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert any("no-new-privileges" in option for option in host["SecurityOpt"]), service
        processes = docker("top", one["Id"], "-eo", "pid,user,args")
        assert not any(password in processes for password in compose.passwords.values()), f"{service}: a password"
        asks = "pg_isready"  # a health check runs for a moment as the user of the container's entrypoint
        users = {line.split()[1] for line in processes.splitlines()[1:] if asks not in line}
        assert not users & {"root", "0"}, f"{service} runs as {users}:\n{processes}"
    for service in ("scheduler", "worker-cpu"):
        assert compose("exec", "-T", service, "id", "-u").stdout.strip() == "1000"
        for path in ("/app/gridyard/x", "/usr/local/x"):
            assert compose("exec", "-T", service, "touch", path, check=False).returncode != 0, f"{path} is writable"
    say("closed: ports on 127.0.0.1 only, nobody is root, code is read-only, no password in a process list")


def _disturb(compose: Compose, sweep: int) -> None:
    _wait_for(compose, sweep, 5)
    _scale(compose, 4)
    _wait_for(compose, sweep, 12)
    compose("exec", "-T", "--index", "1", "worker-cpu", "python", "-c", KILL, check=False)
    say("a worker got SIGKILL: its container starts again by its restart policy")
    docker("kill", compose.containers("worker-cpu")[1]["Id"])
    say("the container of another worker was killed")
    _wait_for(compose, sweep, 18)
    compose("restart", "redis")
    say("Redis was restarted, empty")
    docker("kill", compose.containers("scheduler")[0]["Id"])
    compose("up", "--detach", "--no-recreate", "--scale", "worker-cpu=4")
    say("the scheduler was killed; `up` started it and the killed worker again")
    _wait_for(compose, sweep, 28)
    compose("restart", "postgres")
    say("PostgreSQL was restarted")
    _wait_for(compose, sweep, 36)
    _scale(compose, 2)


def _scale(compose: Compose, workers: int) -> None:
    compose("up", "--detach", "--no-recreate", "--scale", f"worker-cpu={workers}")
    assert len(compose.containers("worker-cpu")) == workers
    say(f"scaled to {workers} workers")


def _states(compose: Compose, sweep: int) -> dict[str, int]:
    """Jobs by state; none while the database is away."""
    status = compose.from_host("status", str(sweep), check=False)
    return status["jobs"] if status else {}


def _wait_for(compose: Compose, sweep: int, jobs: int) -> None:
    """Until so many have succeeded, and some have not."""

    def far_enough() -> dict[str, int]:
        found = _states(compose, sweep)
        return found if found.get("succeeded", 0) >= jobs else {}

    states = wait_until(f"{jobs} jobs of sweep {sweep} have succeeded", far_enough)
    assert states["running"] + states["ready"] + states["waiting"] > 0, f"sweep {sweep} was over too soon: {states}"
    say(f"sweep {sweep}: {_told(states)}")


def _wait_for_end(compose: Compose, sweep: int) -> None:
    """However long it takes, while jobs end."""
    states: dict[str, int] = {}
    while sum(states.get(state, 1) for state in ("waiting", "ready", "running")):
        before = states.get("succeeded", 0) + states.get("failed", 0)

        def moved() -> dict[str, int]:
            found = _states(compose, sweep)
            return found if found.get("succeeded", 0) + found.get("failed", 0) > before else {}  # noqa: B023 (used at once)

        states = wait_until(f"another job of sweep {sweep} ends", moved)
    say(f"sweep {sweep}: {_told(states)}")


def _told(states: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in states.items() if number)


def _each_job_has_one_result(compose: Compose, sweep: int) -> None:
    wanted = 12 * 5  # cells and seeds of the sweep file
    ((jobs, cells, succeeded, scored),) = compose.sql(
        "SELECT count(*), count(DISTINCT (cell, seed)), count(*) FILTER (WHERE state = 'succeeded'), count(score)"
        f" FROM jobs WHERE sweep_id = {sweep}"
    )
    assert {jobs, cells, succeeded, scored} == {str(wanted)}, f"jobs {jobs}, {cells}, {succeeded}, {scored}"
    of_sweep = f"FROM attempts JOIN jobs ON jobs.id = attempts.job_id WHERE jobs.sweep_id = {sweep}"
    wrong = compose.sql(
        f"SELECT jobs.id {of_sweep} GROUP BY jobs.id, jobs.attempt HAVING count(*) FILTER (WHERE outcome = 'succeeded')"
        " <> 1 OR max(attempts.attempt) FILTER (WHERE outcome = 'succeeded') <> jobs.attempt"
    )
    assert not wrong, f"jobs without exactly one result, or of an attempt that had lost its claim: {wrong}"
    ((models, of_last),) = compose.sql(
        "SELECT count(*), count(*) FILTER (WHERE models.attempt = jobs.attempt)"
        f" FROM models JOIN jobs ON jobs.id = models.job_id WHERE jobs.sweep_id = {sweep}"
    )
    assert {models, of_last} == {str(wanted)}, f"{models} models, {of_last} of the attempt that counts"
    outcomes = dict(compose.sql(f"SELECT outcome, count(*) {of_sweep} GROUP BY outcome ORDER BY outcome"))
    say(f"sweep {sweep}: {wanted} jobs, each with exactly one result; attempts: {outcomes}")


def _scores(ranked: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        json.dumps([row["params"], row["seed"]], sort_keys=True): (row["score"], row["metrics"], row["best_epoch"])
        for row in ranked
    }


def _tells_what_happens(compose: Compose) -> None:
    """The scheduler's metrics, and logs of which each line is JSON and says what it is about."""
    read = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464/metrics', timeout=20).read().decode())"
    metrics = compose("exec", "-T", "scheduler", "python", "-c", read).stdout
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("gridyard_"))
    assert float(values['gridyard_jobs{queue="cpu",state="succeeded"}']) == 120
    assert float(values['gridyard_attempts_total{outcome="succeeded"}']) >= 60
    assert float(values["gridyard_bells_total"]) > 0
    names = ['gridyard_jobs{queue="cpu",state="succeeded"}', 'gridyard_attempts_total{outcome="succeeded"}']
    names += ["gridyard_bells_total", 'gridyard_workers{queue="cpu"}', "gridyard_round_seconds_sum"]
    say("metrics: " + ", ".join(f"{name} {float(values[name]):g}" for name in names))

    lines = compose("logs", "--no-log-prefix", "worker-cpu", "scheduler").stdout.splitlines()
    parsed = [json.loads(line) for line in lines if line.strip()]
    of_jobs = [line for line in parsed if "job" in line]
    assert len(of_jobs) >= 60
    assert all({"sweep", "attempt", "worker"} <= set(line) for line in of_jobs)
    assert not any(password in "\n".join(lines) for password in compose.passwords.values()), "a password in a log"
    refused = [line["message"] for line in parsed if "NOPERM" in json.dumps(line)]
    assert not refused, f"Redis refuses what a worker needs: {refused[:3]}"
    levels = collections.Counter(line["level"] for line in parsed)
    say(f"logs: {len(parsed)} lines, all JSON, {len(of_jobs)} about a job, no password; {dict(levels)}")


if __name__ == "__main__":
    assert (ROOT / SWEEP).exists(), PROJECT
    sys.exit(main(*sys.argv[1:2] or ["600"]))
