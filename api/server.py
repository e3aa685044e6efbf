"""The HTTP server: gunicorn with a greenlet for each connection, which refuses what is no HTTP in the same words as the API the rest.

Nothing of ours is imported here before gevent has made the process's locks and sockets its own.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from socket import SHUT_WR
from time import monotonic
from typing import Any, Final

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http.errors import ConfigurationProblem, ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.sock import ssl_wrap_socket
from gunicorn.util import close
from gunicorn.workers.ggevent import GeventWorker

# So many seconds may pass before more of a body comes, or before some more of an answer is taken.
BODY_SECONDS: Final = 60.0
# What still comes is thrown away for so many seconds: a server that closes while a body still comes resets the connection, answer and all.
LINGER_SECONDS: Final = 3.0
# Of a crowd, so many are taken by each process; faster than that one process might take all.
CONNECTIONS_A_SECOND: Final = 500
_PIECE: Final = 65536


class _TooSlow(ParseException):  # type: ignore[misc]
    """The head of a request did not come in time."""


_STATUSES: Final = {
    _TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}


class _Request(Request):  # type: ignore[misc]
    def should_close(self) -> bool:
        """Whether the connection ends with the answer: as the client wishes, or when the body was not read to its end."""
        reader = self.body.reader
        return bool(super().should_close() or getattr(reader, "parser", None) or getattr(reader, "length", 0))


class _Parser(RequestParser):  # type: ignore[misc]
    mesg_class = _Request


class Worker(GeventWorker):  # type: ignore[misc]
    """For gunicorn's `--worker-class`."""

    # a client has as long for a TLS handshake, and for the head of a request from its first byte
    head_seconds = 20.0

    def init_process(self) -> None:
        """Serve, with as many open files as the system allows."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.idle: dict[Any, None] = {}  # the greenlets of connections on which nothing is under way, the longest such first
        self.pool = Pool(self.worker_connections)
        super().init_process()

    def run(self) -> None:
        """Serve until told to end; then answer what is under way."""
        servers = [_Server(listener, handle=partial(self.handle, listener), spawn=self.pool) for listener in self.sockets]
        for server in servers:
            server.start()
        while self.alive:
            self.notify()
            gevent.sleep(1)
        for server in servers:
            server.close()
        self.wsgi.extensions["holds"].close()
        end = monotonic() + self.cfg.graceful_timeout
        while len(self.pool) and monotonic() < end:
            self.notify()
            gevent.killall(list(self.idle), block=False)
            self.pool.join(1)
        self.pool.kill(timeout=1)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a connection until it ends; when there are too many, the one that has been silent for longest makes room."""
        if not self.pool.free_count() and self.idle:
            next(iter(self.idle)).kill(block=False)
        sock = client
        try:
            client.settimeout(self.head_seconds)
            if self.cfg.is_ssl:
                sock = ssl_wrap_socket(client, self.cfg)
            if self._converse(listener.getsockname(), sock, addr):
                _linger(sock)
        except OSError as ended:
            self.log.debug("a connection ended: %s", ended)
        finally:
            close(sock)

    def _converse(self, listener_name: Any, sock: Any, addr: Any) -> bool:
        """Answer one request after another; whether the client may still be sending when that is over."""
        parser, req = _Parser(self.cfg, sock, addr), None
        try:
            while self._more_comes(parser.unreader, sock):
                req = None
                with gevent.Timeout(self.head_seconds, _TooSlow("the head of the request takes too long")):
                    req = next(parser)
                sock.settimeout(BODY_SECONDS)
                with _joined(sock) as answered:
                    self.handle_request(listener_name, req, answered, addr)
                if req.should_close():
                    return True
        except StopIteration:
            return True
        except OSError:
            raise
        except Exception as failed:  # noqa: BLE001 (the outermost frame of a connection)
            self.handle_error(req, sock, addr, failed)
            return True
        return False

    def _more_comes(self, unreader: Any, sock: Any) -> bool:
        """Whether there is more of a client who may be silent for a while."""
        data, silent = unreader.take_buffered(), gevent.getcurrent()
        if not data:
            self.idle[silent] = None
            try:
                sock.settimeout(self.cfg.keepalive or self.head_seconds)
                data = sock.recv(_PIECE)
            finally:
                del self.idle[silent]
        unreader.unread(data)
        return bool(data)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what cannot be read as a request."""
        from api.protection import refusal  # noqa: PLC0415 (not before gevent)
        from broker.trail import Trail  # noqa: PLC0415 (not before gevent)

        if not isinstance(exc, ParseException) or isinstance(exc, ConfigurationProblem):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("refused what is no request: %r", exc)
        status = _STATUSES.get(type(exc), HTTPStatus.BAD_REQUEST)
        Trail("api").record(status=status.value, error=type(exc).__name__, client=str(addr[0]))
        with suppress(OSError):  # nobody may wait for it
            client.settimeout(1)
            client.sendall(refusal(status))


class _Server(StreamServer):  # type: ignore[misc]
    """Takes one connection after another while they come singly, and so many a second of a crowd.

    However busy each is, processes that take turns so share a crowd evenly, and nobody in it waits long to be taken.
    """

    crowd = False
    looked = 0.0

    @property
    def max_accept(self) -> int:
        """How many connections are taken before others are served."""
        now = monotonic()
        seconds, self.looked = now - self.looked, now
        return max(1, int(seconds * CONNECTIONS_A_SECOND)) if self.crowd else 1

    def do_read(self) -> Any:
        """A connection, if there is one."""
        found = super().do_read()
        self.crowd = found is not None
        return found


class _Joined:
    """A socket that sends the head of an answer together with what comes next."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._begun = False
        self._head = b""

    def sendall(self, data: bytes) -> None:
        """Keep the head; send the rest."""
        if self._begun:
            head, self._head = self._head, b""
            self._sock.sendall(head + data)
        else:
            self._head, self._begun = data, True

    def sendfile(self, *arguments: Any, **options: Any) -> Any:
        """Send the head, and a file behind it."""
        self.flush()
        return self._sock.sendfile(*arguments, **options)

    def flush(self) -> None:
        """Send the head if it is still here."""
        head, self._head = self._head, b""
        if head:
            self._sock.sendall(head)

    def __getattr__(self, name: str) -> Any:
        """As the socket does."""
        return getattr(self._sock, name)


@contextmanager
def _joined(sock: Any) -> Iterator[_Joined]:
    joined = _Joined(sock)
    try:
        yield joined
    finally:
        joined.flush()


def _linger(sock: Any) -> None:
    """End the answer, and wait until the client has seen it."""
    sock.shutdown(SHUT_WR)
    with gevent.Timeout(LINGER_SECONDS, False):
        while sock.recv(_PIECE):
            pass
