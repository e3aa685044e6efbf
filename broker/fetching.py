"""HTTP requests that the service itself makes of servers it trusts, bounded in time and size."""

import time

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

_PIECE = 65536


class Fetcher:
    """Keeps connections, follows no redirection, and waits for no more than so many seconds for so many bytes."""

    def __init__(self, *, seconds: float, most: int) -> None:
        self._pool = urllib3.PoolManager(maxsize=16, retries=False)
        self._seconds = seconds
        self._most = most

    def fetch(self, url: str, *, body: bytes | None = None) -> bytes:
        """What the server says, to a POST when there is a JSON body to send.

        Raises OSError when it does not answer 200 in time, or says too much.
        """
        end = time.monotonic() + self._seconds
        try:
            try:
                return self._once(url, body, end)
            except ProtocolError:  # the server may have closed a connection that was kept
                return self._once(url, body, end)
        except HTTPError as failed:
            raise OSError(str(failed)) from None

    def _once(self, url: str, body: bytes | None, end: float) -> bytes:
        timeout = urllib3.Timeout(total=max(0.001, end - time.monotonic()))
        headers = {"Content-Type": "application/json"} if body is not None else {}
        verb = "GET" if body is None else "POST"
        answer = self._pool.request(
            verb, url, body=body, headers=headers, timeout=timeout, redirect=False, preload_content=False, decode_content=False
        )
        try:
            content = self._content(answer, end)
        except BaseException:
            answer.close()
            raise
        finally:
            answer.release_conn()
        if answer.status != 200:
            raise OSError(f"the server answers {answer.status}")
        return content

    def _content(self, answer: urllib3.BaseHTTPResponse, end: float) -> bytes:
        content = b""
        while piece := answer.read1(_PIECE):
            content += piece
            if len(content) > self._most:
                raise OSError(f"the server says more than {self._most} bytes")
            if time.monotonic() > end:
                raise OSError("the server is too slow")
        return content
