"""The HTTP server: gunicorn's threads, which refuse what is no HTTP in the same words as the API refuses the rest."""

import json
from http import HTTPStatus
from typing import Any

from gunicorn.http.errors import ConfigurationProblem, ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

from api.protection import ALWAYS

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
        try:
            write_nonblock(client, refusal(_STATUSES.get(type(exc), HTTPStatus.BAD_REQUEST)))
        except OSError:
            self.log.debug("nobody waits for the refusal")

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer a request; whether its connection may be kept, which it may not when its chunks were not read to their end."""
        kept: bool = super().handle_request(req, conn)
        return kept and getattr(req.body.reader, "parser", None) is None


def refusal(status: HTTPStatus) -> bytes:
    """The whole answer, after which the connection ends."""
    body = json.dumps({"description": "The request cannot be read", "error": status.phrase}).encode() + b"\n"
    headers = {"Connection": "close", "Content-Type": "application/json", "Content-Length": str(len(body)), **ALWAYS}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n".encode() + body
