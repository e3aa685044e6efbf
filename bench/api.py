"""The gateway as one client with one keep-alive connection calls it."""

import http.client
import json
import select
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from bench.series import CallFailedError
from tests.real_site import Site

POLL_SECONDS = 0.01
_SECONDS = 60


@dataclass(frozen=True)
class Address:
    """Where the API is and how a user calls it; it can be sent to another process."""

    url: str
    system: str
    token: str
    user: str


def address(site: Site, client: str) -> Address:
    """How one of the site's clients calls its API, with a fresh token."""
    return Address(site.url, str(site.facts["system"]), site.token(client), str(site.facts["clients"][client]["user"]))


class Api:
    """One connection to the API; whoever uses it must be one thread."""

    def __init__(self, where: Address) -> None:
        """Connect when first used; http.client sets TCP_NODELAY."""
        self._where = where
        self._connection = http.client.HTTPConnection(urlsplit(where.url).netloc, timeout=_SECONDS)
        self._headers = {"Authorization": f"Bearer {where.token}", "X-Machine-Name": where.system}

    def get(self, path: str, **parameters: str) -> Any:
        """The JSON of a 200 answer; raises CallFailedError for any other."""
        return self._call("GET", f"{path}?{urlencode(parameters)}" if parameters else path, expected=200)

    def read(self, path: str, **parameters: str) -> bytes:
        """The bytes of a 200 answer; raises CallFailedError for any other."""
        return self._answer("GET", f"{path}?{urlencode(parameters)}", expected=200)

    def send(self, path: str, content: bytes, *, name: str, **fields: str) -> Any:
        """The JSON of a 201 answer to a form with a file; raises CallFailedError for any other."""
        boundary = uuid4().hex
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n')
        body = "".join(parts).encode() + content + f"\r\n--{boundary}--\r\n".encode()
        return self._call("POST", path, expected=201, body=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})

    def whoami(self) -> None:
        """One `whoami`. Raises CallFailedError."""
        if self.get("/utilities/whoami")["output"] != self._where.user:
            raise CallFailedError(f"whoami did not say {self._where.user}")

    def ls(self, folder: str, *, entries: int) -> None:
        """One `ls` of a folder that holds so many entries. Raises CallFailedError."""
        if len(self.get("/utilities/ls", targetPath=folder)["output"]) != entries:
            raise CallFailedError(f"ls did not list {entries} entries")

    def submit(self, script: bytes) -> str:
        """The id of the task that submits a batch script. Raises CallFailedError."""
        return str(self.send("/compute/jobs/upload", script, name="bench.sh")["task_id"])

    def outcome(self, task_id: str) -> Any:
        """What a task yields, asked for every POLL_SECONDS. Raises CallFailedError when it fails."""
        while True:
            task = self.get(f"/tasks/{task_id}")["task"]
            if task["status"] == "200":
                return task["data"]
            if task["status"] > "200":
                raise CallFailedError(f"task {task_id}: {task['status']} {task['data']}")
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _call(self, verb: str, path: str, *, expected: int, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        return json.loads(self._answer(verb, path, expected=expected, body=body, headers=headers))

    def _answer(self, verb: str, path: str, *, expected: int, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        self._drop_ended()
        try:
            self._connection.request(verb, path, body=body, headers={**self._headers, **(headers or {})})
            answer = self._connection.getresponse()
            text = answer.read()
        except (http.client.HTTPException, OSError) as broken:
            self._connection.close()  # the next call opens it anew
            raise CallFailedError(f"{verb} {path}: {broken!r}") from broken
        if answer.status != expected:
            raise CallFailedError(f"{verb} {path}: {answer.status} {dict(answer.headers)} {text[:200]!r}")
        return text

    def _drop_ended(self) -> None:
        """Close a connection that the server has ended while it was idle, as urllib3 does; it is opened anew by the next request."""
        sock = self._connection.sock
        if sock is None:
            return
        ready = select.poll()  # which knows no highest file descriptor
        ready.register(sock, select.POLLIN)
        if ready.poll(0):
            self._connection.close()
