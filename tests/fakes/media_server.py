"""Web servers on the loopback that misbehave as told."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("media_certificate.pem")
"""For pictures.example, signed by itself, with its key: it guards nothing."""

Answer = Callable[[socket.socket, str], None]
"""The connection and the request's head; returns or fails when the answer is over."""


class Server:
    """Answers one request on each connection. Its threads and sockets are gone after the `with` block."""

    def __init__(self, answer: Answer, *, tls: bool = False) -> None:
        self._answer = answer
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(CERTIFICATE)
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self.connections = 0
        self.heads: list[str] = []
        """What was asked, as it came."""

    def __enter__(self) -> Server:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
            assert not thread.is_alive()

    def url(self, path: str = "/cat.png", *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        """Where it is."""
        return f"{scheme}://{host}:{self.port}{path}"

    def _run(self, function: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=function, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:  # the client hung up, or we did
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                self._connections.append(connection)
                head = b""
                while b"\r\n\r\n" not in head:
                    data = connection.recv(65536)
                    if not data:
                        return
                    head += data
                self.heads.append(head.decode("latin-1"))
                self._answer(connection, self.heads[-1])


def respond(body: bytes = b"", *, status: str = "200 OK", headers: dict[str, str] | None = None) -> Answer:
    """A well-behaved answer, or one whose headers lie."""

    def answer(connection: socket.socket, head: str) -> None:
        lines = {"Content-Length": str(len(body)), "Connection": "close"} | (headers or {})
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        connection.sendall(f"HTTP/1.1 {status}\r\n{text}\r\n".encode("latin-1") + body)

    return answer


def redirect(location: str, *, status: str = "302 Found") -> Answer:
    """Somewhere else."""
    return respond(status=status, headers={"Location": location, "Set-Cookie": "session=1"})


def by_path(answers: dict[str, Answer]) -> Answer:
    """An answer for each path, and 404 for the rest."""

    def answer(connection: socket.socket, head: str) -> None:
        path = head.split(" ", 2)[1]
        answers.get(path, respond(status="404 Not Found"))(connection, head)

    return answer


def endless(connection: socket.socket, head: str) -> None:
    """A body without an end, as fast as it is taken."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
    while True:
        connection.sendall(bytes(65536))


def drip(pause_seconds: float, *, in_head: bool = False) -> Answer:
    """A byte now and then: of the body, or of a head that never ends."""

    def answer(connection: socket.socket, head: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + (b"X: " if in_head else b"\r\n"))
        while not _hung_up(connection, pause_seconds):
            connection.sendall(b"x")

    return answer


def silence(connection: socket.socket, head: str) -> None:
    """Nothing, until the client gives up."""
    while not _hung_up(connection, 1.0):
        pass


def _hung_up(connection: socket.socket, wait_seconds: float) -> bool:
    connection.settimeout(wait_seconds)
    try:
        return not connection.recv(1)
    except TimeoutError:
        return False


@contextlib.contextmanager
def serving(answer: Answer, *, tls: bool = False) -> Iterator[Server]:
    """A server for as long as the block lasts."""
    with Server(answer, tls=tls) as server:
        yield server
