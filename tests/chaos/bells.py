"""A proxy before Redis that doubles or drops every bell, and lets all else through."""

import asyncio
import contextlib
import threading
from enum import Enum

Command = list[bytes]


class Bells(Enum):
    """What becomes of a bell that is rung."""

    HEARD = "heard"
    DOUBLED = "doubled"
    DROPPED = "dropped"


class Proxy:
    """Listens on a port of its own of this machine; where Redis is away, connections are closed at once."""

    def __init__(self, redis_port: int) -> None:
        self.bells = Bells.HEARD
        self.counts = dict.fromkeys(Bells, 0)
        self._redis_port = redis_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bells", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
                try:
                    ways = (self._commands(reader, to_redis), _copied(from_redis, writer))
                    tasks = [asyncio.ensure_future(way) for way in ways]
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                finally:
                    to_redis.close()
            finally:
                writer.close()

    async def _commands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            command = await _read(reader)
            if command[0].upper() == b"LPUSH":
                command = self._bell(command)
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in command)
            writer.write(b"*%d\r\n%s" % (len(command), parts))
            await writer.drain()

    def _bell(self, command: Command) -> Command:
        """LPUSH queue bell: in its place one that is answered by a number, too."""
        self.counts[self.bells] += 1
        if self.bells is Bells.DROPPED:
            return [b"LLEN", command[1]]
        return [*command, *command[2:]] if self.bells is Bells.DOUBLED else command


async def _read(reader: asyncio.StreamReader) -> Command:
    """One command, as clients send it: an array of strings."""
    head = await reader.readuntil(b"\r\n")
    assert head[:1] == b"*", f"no command of a Redis client: {head!r}"
    command = []
    for _ in range(int(head[1:])):
        length = int((await reader.readuntil(b"\r\n"))[1:])
        command.append((await reader.readexactly(length + 2))[:-2])
    return command


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while content := await reader.read(65_536):
        writer.write(content)
        await writer.drain()
