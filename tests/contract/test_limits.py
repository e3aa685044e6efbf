"""pyfirecrest waits as it is told when its user calls too often, and goes on by itself."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.changed import changed
from tests.real_site import Site


@pytest.fixture
def slow(site: Site) -> Iterator[None]:
    """The site with little to spare."""
    with changed(site, "limits", {"calls_per_second": 1, "calls_burst": 2, "calls_at_once": 2, "calls_waiting": 0}, restarted=("api",)):
        yield


@pytest.mark.usefixtures("slow")
def test_a_client_obeys_429_by_itself(make: Callable[..., Any], system: str) -> None:
    client = make()
    begun = time.monotonic()
    names = [client.whoami(system) for _ in range(6)]

    assert set(names) == {"fcalice"}
    assert time.monotonic() - begun > 2.5
