"""A way to a server that stops carrying anything, without a word: as a firewall that has forgotten a connection."""

import contextlib
import socket
import threading


class Proxy:
    """Carries what comes to its port to a server, until it is told to swallow it."""

    def __init__(self, server: int | str) -> None:
        """
        Args:
            server: a port of this machine, or the path of a unix socket.
        """
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._swallowed: set[socket.socket] = set()
        self._carried: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> int:
        """From now on nothing goes through the connections that are there, and none is closed; their number.

        What is sent is taken, so that no end notices. New connections work.
        """
        with self._lock:
            self._swallowed |= self._carried
            return len(self._carried) // 2

    def close(self) -> None:
        with self._lock:
            everything = [self._listener, *self._carried]
        for one in everything:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                with self._lock:
                    self._carried |= {client, server}
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._server, int):
            return socket.create_connection(("127.0.0.1", self._server))
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        return server

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while taken := source.recv(65_536):
                if source not in self._swallowed:
                    target.sendall(taken)
        if source not in self._swallowed:  # else nobody learns that the other end has gone
            for one in (source, target):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
