"""HTTP requests byte by byte, for what no well-behaved client would send."""

import http.client
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes, urlsplit

BOUNDARY = b"---------------------------a1b2c3d4e5f6"
URLENCODED = b"application/x-www-form-urlencoded"
MULTIPART = b"multipart/form-data; boundary=" + BOUNDARY

Pairs = list[tuple[str, bytes]]


@dataclass(frozen=True)
class File:
    """A file in a form; `extended` names it by RFC 5987, too."""

    name: bytes
    content: bytes
    extended: bool = False


@dataclass
class Request:
    """A request as it is sent."""

    verb: str
    path: bytes
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    body: bytes = b""
    measured: bool = True

    def encoded(self) -> bytes:
        """Its bytes."""
        length = [("Content-Length", str(len(self.body)).encode())] if self.body and self.measured else []
        headers = [("Host", b"gateway"), *self.headers, *length]
        lines = [self.verb.encode() + b" " + self.path + b" HTTP/1.1", *(name.encode() + b": " + value for name, value in headers)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def escaped(value: bytes) -> bytes:
    """All that is not a letter or a digit as %xx."""
    return quote_from_bytes(value, safe="").encode()


def urlencoded(pairs: Pairs) -> bytes:
    """A query, or a form."""
    return b"&".join(name.encode() + b"=" + escaped(value) for name, value in pairs)


def multipart(pairs: Pairs, files: dict[str, File]) -> bytes:
    """A form with files; names and values go in as they are."""
    parts = [(f'name="{name}"'.encode(), value) for name, value in pairs]
    parts += [(f'name="{name}"; '.encode() + _named(file), file.content) for name, file in files.items()]
    texts = [b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts]
    return b"".join(texts) + b"--" + BOUNDARY + b"--\r\n"


def _named(file: File) -> bytes:
    plain = b'filename="' + file.name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"filename*=UTF-8''" + escaped(file.name) if file.extended else plain


class Connection:
    """A connection to the API that is kept as long as the API keeps it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._address = (str(address.hostname), address.port or 80)
        self._socket: socket.socket | None = None

    def send(self, request: Request) -> Answer:
        """What the API answers; a request on a connection that had ended is sent again on a new one."""
        try:
            return self._send(request)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.close()
            return self._send(request)

    def _send(self, request: Request) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=30)
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever refuses early may still have answered
            self._socket.sendall(request.encoded())
        response = http.client.HTTPResponse(self._socket, method=request.verb)
        response.begin()
        answer = Answer(response.status, response.getheaders(), response.read())
        if response.will_close:
            self.close()
        return answer

    def close(self) -> None:
        """End it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
