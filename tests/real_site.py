"""The running site as tests see it: what its site.json says, hands to touch it with, and clients of its API."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
import requests
from redis import Redis

T = TypeVar("T")
# headers that say nothing of a failure
_WITH_EVERY_ANSWER = {"x-content-type-options", "x-frame-options", "x-request-id"}
# the object stores of the site, and the program that answers for each
STORES = {"radosgw": "radosgw", "radosgw_tls": "radosgw", "swift": "swift-proxy"}


def not_here(why: str) -> NoReturn:
    """Skip a test for what a laptop may lack; fail it in CI, where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def eventually(found: Callable[[], T | None], *, seconds: float = 20, pause: float = 0.1) -> T:
    """The first truthy value of `found`, which is asked again until `seconds` are over."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"{found} did not come true within {seconds} s"
        time.sleep(pause)
    return value


def told(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an answer that tell of a failure."""
    return {name: value for name, value in headers.items() if name.lower().startswith("x-") and name.lower() not in _WITH_EVERY_ANSWER}


@dataclass(frozen=True)
class Site:
    """A running site: what its site.json says, and hands to touch it with."""

    facts: dict[str, Any]

    @property
    def url(self) -> str:
        """Where the API is."""
        return str(self.facts["urls"]["api"])

    def on(self, store: str) -> "Site":
        """The same site with its gateway on that object store."""
        gateway = self.facts["gateways"][store]
        urls = self.facts["urls"] | {"api": gateway["api"], "redis": gateway["redis"]}
        storage = {"storage": self.facts["stores"][store], "storage_program": STORES[store]}
        return Site(self.facts | storage | {"urls": urls, "settings": gateway["settings"]})

    def redis(self) -> Redis:
        """A client for its Redis."""
        return Redis.from_url(self.facts["urls"]["redis"])

    def token(self, client: str) -> str:
        """A fresh access token for one of its clients: alice, bob, carol, dave, mallory, nobody, root."""
        known = self.facts["clients"][client]
        form = {"grant_type": "client_credentials", "client_id": known["id"], "client_secret": known["secret"]}
        answer = requests.post(self.facts["urls"]["token"], data=form, timeout=10)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def supervisor(self, *words: str) -> str:
        """What supervisorctl says to `start`, `stop`, `signal`, `pid` … of a program of the site."""
        program = Path(sys.executable).parent / "supervisorctl"
        done = subprocess.run(
            [program, "-c", self.facts["supervisor"]["config"], *words], capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout.strip()

    def slurm(self, *words: str, user: str = "root") -> str:
        """What a Slurm command prints on the system, run as a user."""
        done = subprocess.run(
            ["setpriv", f"--reuid={user}", "--regid", "nogroup" if user == "nobody" else user, "--init-groups", "--", *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "SLURM_CONF": self.facts["slurm_conf"]},
        )
        return done.stdout.strip()

    def gridengine(self, *words: str, user: str = "root", check: bool = True) -> str:
        """What a Grid Engine command prints on its system, run as a user in the namespaces of the daemons."""
        environment = {**self.facts["gridengine"], "PATH": "/usr/lib/gridengine:/usr/bin:/bin:/usr/sbin:/sbin"}
        daemon = Path(environment["SGE_ROOT"], "spool", "qmaster", "qmaster.pid").read_text().strip()
        done = subprocess.run(
            [
                "nsenter",
                f"--target={daemon}",
                "--mount",
                "--uts",
                "--root",
                "--wd",
                "setpriv",
                f"--reuid={user}",
                f"--regid={user}",
                "--init-groups",
                *words,
            ],
            capture_output=True,
            text=True,
            check=check,
            timeout=60,
            env=environment,
            cwd="/",
        )
        return done.stdout.strip()


class Client(requests.Session):
    """The API as one user calls it: paths instead of URLs, token and system in the headers."""

    def __init__(self, site: Site, client: str, *, system: str = "") -> None:
        super().__init__()
        self.site = site
        self.client = client
        self.user = str(site.facts["clients"][client]["user"])
        self.headers["X-Machine-Name"] = system or site.facts["system"]
        self._old_at = float("-inf")

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """A request to a path of the API, with a token that has some time left."""
        self.authorization()
        return super().request(method, self.site.url + url, **{"timeout": 60, **options})

    def authorization(self) -> str:
        """The header of that name, with a token that has some time left."""
        if time.monotonic() > self._old_at:
            self.headers["Authorization"] = f"Bearer {self.site.token(self.client)}"
            self._old_at = time.monotonic() + 120
        return str(self.headers["Authorization"])

    def task(self, ticket: requests.Response, *, seconds: float = 30) -> dict[str, Any]:
        """The task that an answer names, once it is final."""
        task_id = ticket.json()["task_id"]

        def final() -> dict[str, Any] | None:
            task = self.get(f"/tasks/{task_id}").json()["task"]
            return task if task["status"] >= "200" else None

        return eventually(final, seconds=seconds)
