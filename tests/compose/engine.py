"""A Docker Engine with Compose, as the test uses it: a project of its own, which leaves the user's alone."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
PROJECT = "gridyard-test"
WAIT_SECONDS = 300.0  # for any event; a machine that is busy with other work may need it
STARTED = time.monotonic()

T = TypeVar("T")


def say(text: str) -> None:
    """One line of the report, with the seconds since the start."""
    print(f"{time.monotonic() - STARTED:6.0f} s  {text}", flush=True)


def wait_until(what: str, holds: Callable[[], T]) -> T:
    """The first true value of a condition."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := holds()):
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:g} s in vain until {what}"
        time.sleep(0.5)
    return value


class Compose:
    """`docker compose` on this checkout's file, with passwords, ports and volumes of its own."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: for the .env file.
        """
        self.passwords = {name: secrets.token_hex(24) for name in ("POSTGRES", "REDIS", "GRAFANA")}
        self.ports = {name: _free_port() for name in ("POSTGRES", "REDIS")}
        self._env = folder / ".env"
        values = {f"{name}_PASSWORD": value for name, value in self.passwords.items()}
        values |= {f"{name}_PORT": str(port) for name, port in self.ports.items()}
        self._env.write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    def __call__(self, *arguments: str, check: bool = True, env_file: str = "") -> subprocess.CompletedProcess[str]:
        command = ["docker", "compose", "--project-name", PROJECT, "--env-file", env_file or str(self._env), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=_clean_environment())
        assert done.returncode == 0 or not check, f"{' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What `docker inspect` tells of the containers of a service, oldest number first; ended ones too."""
        ids = self("ps", "--all", "--quiet", service).stdout.split()
        found = json.loads(docker("inspect", *ids)) if ids else []
        return sorted(found, key=lambda one: int(one["Config"]["Labels"]["com.docker.compose.container-number"]))

    def wait_for_health(self, *services: str) -> None:
        """Until every container of these services runs and is healthy."""

        def healthy() -> bool:
            states = [one["State"] for service in services for one in self.containers(service)]
            return bool(states) and all(state.get("Health", {}).get("Status") == "healthy" for state in states)

        wait_until(f"{', '.join(services)} are healthy", healthy)

    def sql(self, query: str) -> list[list[str]]:
        """Rows of a query, by psql in the database's container."""
        psql = ("psql", "--username", "gridyard", "--dbname", "gridyard", "--host", "127.0.0.1", "-At", "-F", "\t")
        password = f"PGPASSWORD={self.passwords['POSTGRES']}"
        told = self("exec", "-T", "-e", password, "postgres", *psql, "-c", query).stdout
        return [line.split("\t") for line in told.splitlines()]

    def from_host(self, *arguments: str, check: bool = True) -> Any:
        """What `gridyard … --json` of this checkout prints, run on the host; None when it fails and may."""
        environment = _clean_environment() | {
            "GRIDYARD_DB": f"postgresql://gridyard:{self.passwords['POSTGRES']}@127.0.0.1:{self.ports['POSTGRES']}/gridyard",
            "GRIDYARD_BROKER": f"redis://gridyard:{self.passwords['REDIS']}@127.0.0.1:{self.ports['REDIS']}/0",
        }
        command = [sys.executable, "-P", "-m", "gridyard", *arguments, "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0 or not check, f"gridyard {' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout) if done.returncode == 0 else None


def docker(*arguments: str) -> str:
    """What a docker command prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def missing() -> str | None:
    """What keeps the test from running here; None: nothing."""
    if shutil.which("docker") is None:
        return "there is no docker command; install a Docker Engine with the compose plugin"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return f"`{' '.join(command)}` fails: {(done.stderr.strip().splitlines() or ['no reason is told'])[-1]}"
    return None


def _clean_environment() -> dict[str, str]:
    """The user's own settings and .env are not meant for this project."""
    servers = ("POSTGRES_", "REDIS_", "GRAFANA_")
    ours = ("GRIDYARD_", "COMPOSE_", *servers, "CPU_SLOTS", "BIND", "DATA", "STORE", "FILES", "LOG")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
