"""An object store that is no more than systems need of one: it takes parts, and gives files from any byte on."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Store(ThreadingHTTPServer):
    """Keeps what is PUT, and may cut every answer off after `most` bytes or hold it back."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.kept: dict[str, bytes] = {}
        self.most: int | None = None
        self.held = threading.Event()
        self.held.set()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.kept[self.path[1:]] = content
        self.server.held.wait()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        if self.path[1:] not in self.server.kept:
            self.send_error(404)
            return
        content = self.server.kept[self.path[1:]][int(self.headers["Range"][6:-1]) :]
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.most])
        self.wfile.flush()
        self.server.held.wait()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
