"""Requests that are wrong as a whole: each shape spoils a request that was in order."""

from collections.abc import Callable

from tests.site.raw_http import BOUNDARY, MULTIPART, URLENCODED, File, Request, multipart

Shape = Callable[[Request], None]

_PART = b'\r\nContent-Disposition: form-data; name="targetPath"\r\n\r\n'
_START, _END = b"--" + BOUNDARY, b"\r\n--" + BOUNDARY + b"--\r\n"
_STRANGE = b"__proto__=1&__class__=1&route=1&hidden=1&model_config=1&self=1&target_path=..&targetPath[]=1&%ff=1&=1&&&;"
_PARTS = multipart([("targetPath", b"/tmp")], {})
_FILES = multipart([], {name: File(b"x", b"y") for name in ("targetPath", "sourcePath", "account", "env")})
_MEGABYTE = 1024 * 1024


def _query(text: bytes) -> Shape:
    def spoil(request: Request) -> None:
        request.path += (b"&" if b"?" in request.path else b"?") + text

    return spoil


def _header(name: str, value: bytes, *, times: int = 1) -> Shape:
    def spoil(request: Request) -> None:
        request.headers += [(name, value)] * times

    return spoil


def _body(kind: bytes, body: bytes) -> Shape:
    def spoil(request: Request) -> None:
        request.headers = [(name, value) for name, value in request.headers if name != "Content-Type"] + [("Content-Type", kind)]
        request.body = body

    return spoil


def _length(text: bytes) -> Shape:
    def spoil(request: Request) -> None:
        request.headers.append(("Content-Length", text))
        request.measured = False

    return spoil


def _chunks(body: bytes, *, encoding: bytes = b"chunked") -> Shape:
    def spoil(request: Request) -> None:
        request.headers.append(("Transfer-Encoding", encoding))
        request.body, request.measured = body, False

    return spoil


def _in_chunks(request: Request) -> None:
    body = b"%x\r\n%s\r\n" % (len(request.body), request.body) if request.body else b""
    _chunks(body + b"0\r\n\r\n")(request)


def _verb(verb: str) -> Shape:
    def spoil(request: Request) -> None:
        request.verb = verb

    return spoil


def _path(path: Callable[[bytes], bytes]) -> Shape:
    def spoil(request: Request) -> None:
        request.path = path(request.path)

    return spoil


def _twice(request: Request) -> None:
    _query(request.path.partition(b"?")[2] + b"&targetPath=%00")(request)
    request.body = request.body and request.body + b"&" + request.body


SHAPES: dict[str, Shape] = {
    "parameters twice": _twice,
    "unknown parameters": _query(_STRANGE),
    "a thousand parameters": _query(b"&".join(b"a%d=1" % number for number in range(1000))),
    "percents that are none": _query(b"targetPath=%zz%&%u0041=%&%=%%%"),
    "a query that is no URL": _query(b'targetPath=\xff\xfe\x80<>"{}|^`'),
    "a request line that is too long": _query(b"targetPath=" + b"a" * 65_536),
    "unknown form fields": _body(URLENCODED, _STRANGE),
    "ten thousand form fields": _body(URLENCODED, b"&".join(b"a%d=1" % number for number in range(10_000))),
    "two thousand parts": _body(MULTIPART, _START + (_PART + b"x\r\n" + _START) * 2000 + b"--\r\n"),
    "a JSON body": _body(b"application/json", b'{"targetPath": "/tmp", "sourcePath": "/tmp", "jobs": [1]}'),
    "a deep JSON body": _body(b"application/json", b"[" * 100_000),
    "an XML body": _body(b"text/xml", b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>"),
    "a body of no type": _body(b"", b"targetPath=/tmp"),
    "a body of a mad type": _body(b"\xff/; charset=\xfe; boundary", b"targetPath=/tmp"),
    "a body in a mad charset": _body(URLENCODED + b"; charset=utf-7", b"targetPath=+ACQAKA-id)"),
    "bytes as a form": _body(URLENCODED, bytes(range(256)) * 16),
    "bytes as parts": _body(MULTIPART, bytes(range(256)) * 16),
    "no boundary": _body(b"multipart/form-data", _PARTS),
    "an empty boundary": _body(b"multipart/form-data; boundary=", _PARTS),
    "a long boundary": _body(b"multipart/form-data; boundary=" + b"b" * 4000, b"--" + b"b" * 4000 + b"--"),
    "parts cut short": _body(MULTIPART, _START + _PART[:-9]),
    "a part without end": _body(MULTIPART, _START + _PART + b"x"),
    "a part without name": _body(MULTIPART, _START + b"\r\n\r\nx" + _END),
    "a part with a long head": _body(MULTIPART, _START + b"\r\nX: " + b"y" * 70_000 + _PART + b"x" + _END),
    "fields as files": _body(MULTIPART, _FILES),
    "files as fields": _body(MULTIPART, multipart([("file", b"#!/bin/sh\ntrue\n"), ("targetPath", b"/tmp")], {})),
    "a part in an encoding": _body(MULTIPART, _FILES.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n")),
    "too large a body": _body(MULTIPART, multipart([], {"file": File(b"x", b"y" * (5 * _MEGABYTE + 70_000))})),
    "a body that is not gzip": _header("Content-Encoding", b"gzip"),
    "a mad transfer encoding": _header("Transfer-Encoding", b"nonsense"),
    "a body in chunks": _in_chunks,
    "chunks that are none": _chunks(b"zz\r\n\r\n"),
    "chunks of what is not gzip": _chunks(b"0\r\n\r\n", encoding=b"gzip, chunked"),
    "a request where a chunk should be": _chunks(b"GET /status/systems HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a request behind a chunk": _chunks(b"1\r\nxy\r\n\r\nGET /status/systems HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a negative length": _length(b"-1"),
    "a mad length": _length(b"1e3"),
    "a mad expectation": _header("Expect", b"the worst"),
    "a long header": _header("X-Long", b"a" * 65_536),
    "many headers": _header("X-More", b"1", times=200),
    "a header that is none": _header("X Y(", b"1"),
    "a NUL in a header": _header("X-Nul", b"a\0b"),
    "a folded header": _header("X-Folded", b"a\r\n b"),
    "a verb in disguise": _header("X-HTTP-Method-Override", b"DELETE"),
    "another host": _header("X-Forwarded-Host", b"evil\"'<>"),
    "two systems": _header("X-Machine-Name", b"elsewhere"),
    "two callers": _header("Authorization", b"Bearer x"),
    "another verb": _verb("PATCH"),
    "an unknown verb": _verb("STEAL"),
    "a verb that is none": _verb("g{t"),
    "double slashes": _path(lambda path: path.replace(b"/", b"//")),
    "dots in the path": _path(lambda path: b"/x/..%2f.." + path + b"/%2e%2e/"),
    "a NUL in the path": _path(lambda path: path.partition(b"?")[0] + b"/%00"),
    "a path that is none": _path(lambda path: path.partition(b"?")[0] + b"/\xff%ff"),
    "a whole URL": _path(lambda path: b"http://evil.example" + path),
}
