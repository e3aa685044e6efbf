"""pyfirecrest as its users have it: synchronous, asynchronous and on the command line."""

import asyncio
import inspect
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from firecrest import ClientCredentialsAuth
from firecrest.v1 import AsyncFirecrest, Firecrest

from tests.real_site import Site


class Blocking:
    """The asynchronous client, each call of which is waited for."""

    def __init__(self, url: str, authorization: ClientCredentialsAuth) -> None:
        self.runner = asyncio.Runner()
        self.client = self.runner.run(self._made(url, authorization))

    def __getattr__(self, name: str) -> Any:
        """The client's method, waited for when it has to be."""
        found = getattr(self.client, name)
        if not inspect.iscoroutinefunction(inspect.unwrap(found)):
            return found
        return lambda *words, **options: self.runner.run(found(*words, **options))

    def close(self) -> None:
        """End the session and the loop."""
        self.runner.run(self.client.close_session())
        self.runner.close()

    @staticmethod
    async def _made(url: str, authorization: ClientCredentialsAuth) -> AsyncFirecrest:
        return AsyncFirecrest(url, authorization)


def authorization(site: Site, name: str) -> ClientCredentialsAuth:
    """The credentials of one of the site's clients."""
    known = site.facts["clients"][name]
    return ClientCredentialsAuth(known["id"], known["secret"], site.facts["urls"]["token"])


@pytest.fixture(scope="session", params=[Firecrest, Blocking], ids=["sync", "async"])
def make(request: pytest.FixtureRequest, site: Site) -> Iterator[Callable[..., Any]]:
    """Makes clients of one kind: of alice by default, or with any authorization or URL."""
    made: list[Any] = []

    def client(name: str = "alice", *, url: str = site.url, auth: Any = None) -> Any:
        made.append(request.param(url, auth or authorization(site, name)))
        return made[-1]

    yield client
    for one in made:
        if isinstance(one, Blocking):
            one.close()


@pytest.fixture(scope="session")
def client(make: Callable[..., Any]) -> Any:
    """A client of alice that finds out the API's version by itself."""
    return make()


@pytest.fixture(scope="session")
def system(site: Site) -> str:
    """The system's name."""
    return str(site.facts["system"])


@pytest.fixture
def cli(site: Site, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `firecrest …` with the variables of client.env, for the gateway of the test, and nothing but them."""
    words = [shlex.split(line)[1] for line in Path(site.facts["state"], "client.env").read_text().splitlines()]
    variables = dict(word.split("=", 1) for word in words)
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "COLUMNS": "1000", "TERM": "dumb", **variables, "FIRECREST_URL": site.url}

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / "firecrest"
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60, env=environment, cwd=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run
