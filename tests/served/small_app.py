"""A WSGI application: reads as many bytes of a body as the path says, and answers when so many calls have come as the query says.

Or it sends its own text, or works for a moment and tells which process it is.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATCHED = type(threading.Lock()).__module__.startswith("gevent")
REACHED = threading.Condition()
SEEN = [0]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    if environ["PATH_INFO"] == "/file":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(Path(__file__).stat().st_size))])
        wrapped: Iterator[bytes] = environ["wsgi.file_wrapper"](Path(__file__).open("rb"))  # noqa: SIM115 (the server closes it)
        return wrapped
    if environ["PATH_INFO"] == "/process":
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        told = str(os.getpid()).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(told)))])
        return iter([told])
    with REACHED:
        SEEN[0] += 1
        REACHED.notify_all()
        REACHED.wait_for(lambda: SEEN[0] >= int(environ["QUERY_STRING"] or 0))
    read = environ["wsgi.input"].read(int(environ["PATH_INFO"].strip("/") or 0))
    body = f"{len(read)} {'patched' if PATCHED else 'bare'}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return iter([body])


class Holds:
    def close(self) -> None:
        """Nothing is held."""


app.extensions = {"holds": Holds()}
