"""A server that speaks as much of PostgreSQL's protocol as it takes to refuse a connection."""

import multiprocessing
import socket
import struct

from db.session import Database


class Server:
    """Says one thing to whoever connects, as PostgreSQL says it; the words are those of a German server."""

    def __init__(self, sqlstate: str | None) -> None:
        """
        Args:
            sqlstate: None: it hangs up.
        """
        self._sqlstate = sqlstate
        listener = socket.create_server(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        self.url = f"postgresql://yard:s3cret@127.0.0.1:{port}/yard?sslmode=disable&gssencmode=disable"
        self.database = Database(self.url)
        # A process of its own: libpq's question holds all threads of the one that asks.
        self._process = multiprocessing.get_context("fork").Process(target=serve, args=(listener, sqlstate))
        self._process.start()
        listener.close()

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self.database.close()


def serve(listener: socket.socket, sqlstate: str | None) -> None:
    while True:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            if sqlstate is not None:
                told = {"S": "SCHWERWIEGEND", "V": "FATAL", "C": sqlstate, "M": "so geht es nicht"}
                fields = b"".join(f"{name}{text}".encode() + b"\0" for name, text in told.items()) + b"\0"
                client.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)
