"""The HTTP server: gunicorn's threads, which refuse what is no HTTP in the same words as the API refuses the rest."""

import json
from http import HTTPStatus
from typing import Any

from gunicorn.http.errors import ConfigurationProblem, ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

from api.lobby import Lobby
from api.protection import ALWAYS
from broker.trail import Trail

_REFUSED = (b"HTTP/1.1 429", b"HTTP/1.0 429")
_STATUSES = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}


class Worker(ThreadWorker):  # type: ignore[misc]
    """For gunicorn's `--worker-class`."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what cannot be read as a request."""
        if not isinstance(exc, ParseException) or isinstance(exc, ConfigurationProblem):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("refused what is no request: %r", exc)
        status = _STATUSES.get(type(exc), HTTPStatus.BAD_REQUEST)
        Trail("api").record(status=status.value, error=type(exc).__name__, client=str(addr[0]))
        try:
            write_nonblock(client, refusal(status))
        except OSError:
            self.log.debug("nobody waits for the refusal")

    def init_process(self) -> None:
        """Serve, with a lobby of this process."""
        self.lobby = Lobby()
        super().init_process()

    def run(self) -> None:
        """Serve until told to end."""
        super().run()
        self.lobby.close()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to end: what is held is answered now."""
        self.wsgi.extensions["holds"].close()
        super().handle_exit(sig, frame)

    def handle(self, conn: Any) -> Any:
        """Answer what comes on a connection.

        One that ends is left to the lobby: to close it may take seconds, in which the one thread that accepts would do nothing else.
        """
        kept = super().handle(conn)
        if not kept and not isinstance(conn.sock, _Left):
            self._leave(conn)
        return kept

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer a request; whether its connection may be kept, which it may not when its chunks were not read to their end.

        Whoever makes too many is answered in the lobby, where no thread waits with them, and has to connect anew.
        """
        sock = conn.sock
        conn.sock = held = _HoldsRefusals(sock)
        try:
            kept: bool = super().handle_request(req, conn)
        finally:
            conn.sock = sock
        if held.refusal:
            self._leave(conn, held.refusal.replace(b"Connection: keep-alive", b"Connection: close", 1), _authorization(req))
            return False
        return kept and getattr(req.body.reader, "parser", None) is None

    def _leave(self, conn: Any, answer: bytes = b"", key: str = "") -> None:
        sock, conn.sock = conn.sock, _Left()
        self.lobby.take(sock, answer, key)


class _HoldsRefusals:
    """A socket that keeps back an answer of 429."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.refusal = b""

    def sendall(self, data: bytes) -> None:
        """Send, or keep."""
        if self.refusal or data.startswith(_REFUSED):
            self.refusal += data
        else:
            self._sock.sendall(data)

    def __getattr__(self, name: str) -> Any:
        """As the socket does."""
        return getattr(self._sock, name)


class _Left:
    """In the place of a socket that was left to the lobby."""

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 (as sockets have it)
        """Nothing."""

    def shutdown(self, _: int) -> None:
        """Nothing is there to shut down."""
        raise OSError

    def close(self) -> None:
        """Nothing."""


def _authorization(req: Any) -> str:
    return next((str(value) for name, value in req.headers if name == "AUTHORIZATION"), "")


def refusal(status: HTTPStatus) -> bytes:
    """The whole answer, after which the connection ends."""
    body = json.dumps({"description": "The request cannot be read", "error": status.phrase}).encode() + b"\n"
    headers = {"Connection": "close", "Content-Type": "application/json", "Content-Length": str(len(body)), **ALWAYS}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n".encode() + body
