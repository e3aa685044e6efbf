"""A WSGI application: reads as many bytes of a body as the path says, and answers when so many calls have come as the query says."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

PATCHED = type(threading.Lock()).__module__.startswith("gevent")
REACHED = threading.Condition()
SEEN = [0]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
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
