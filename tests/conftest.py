"""The real site that tests run against, and its clients."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.real_site import Client, Site, eventually, not_here
from tests.systems import SYSTEMS, System

ROOT = Path(__file__).parent.parent
__all__ = ["Client", "Site", "eventually"]

SECTIONS = pytest.StashKey[dict[str, Callable[[], list[str]]]]()  # what is shown at the end, by title

STATE = Path(os.environ.get("FIRECREST_TEST_SITE", ROOT / ".site-test"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Long runs are asked for."""
    parser.addoption("--faults-long", action="store_true", help="run the long forms of the tests in tests/faults")
    parser.addoption("--faults-rounds", type=int, help="how often each part breaks while transfers are under way")
    parser.addoption("--faults-seed", type=int, default=20261122, help="the seed of the moments at which parts break")
    parser.addoption("--hostile-whole", action="store_true", help="send every hostile value through every field, not each its share")


def pytest_configure(config: pytest.Config) -> None:
    """Whoever has more to show adds to it."""
    config.stash[SECTIONS] = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes (`-n`) leaves it to their head to show what there is."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["sections"] = {title: list(lines()) for title, lines in session.config.stash[SECTIONS].items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what one of several processes has to show."""
    told = getattr(node, "workeroutput", {}).get("sections", {})
    node.config.stash[SECTIONS].update({title: partial(list, lines) for title, lines in told.items()})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Figures that tests have recorded are shown at the end."""
    for title, lines in config.stash[SECTIONS].items():
        terminalreporter.section(title)
        for line in lines():
            terminalreporter.write_line(line)
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name}: {value}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked with object stores runs on each of them."""
    marker = metafunc.definition.get_closest_marker("stores")
    if marker and "site" in metafunc.fixturenames:
        metafunc.parametrize("site", marker.args, indirect=True, scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes (`-n`), one runs all that the site is needed for, and each other module is run by one."""
    from xdist.scheduler import LoadScopeScheduling

    class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return module if module.split("/")[1] in ("hosts", "pure", "served") else "site"

    return _Scheduling(config, log)


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Site:
    """The site of the tests, its gateway on radosgw or the marked object store; started when it does not run, stopped by `./run test`."""
    store = getattr(request, "param", "radosgw")
    return started(*(["--with-swift"] if store == "swift" else [])).on(store)


def started(*options: str) -> Site:
    """The site, all of which runs that the options name."""
    if os.geteuid() != 0:
        not_here("the site needs root")
    if "--with-swift" in options and not Path("/usr/bin/swift-proxy-server").exists():
        not_here("Swift is not installed: ./run install")
    subprocess.run([sys.executable, "site", "start", "--for-tests", *options, "--state", str(STATE)], cwd=ROOT, check=True, timeout=300)
    return Site(json.loads((STATE / "site.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def alice(site: Site) -> Client:
    """A user with two accounts."""
    return Client(site, "alice")


@pytest.fixture(scope="session")
def bob(site: Site) -> Client:
    """Another user."""
    return Client(site, "bob")


@pytest.fixture(scope="session")
def mallory(site: Site) -> Client:
    """A user who means harm; nobody else relies on their home and their jobs."""
    return Client(site, "mallory")


@pytest.fixture(scope="session")
def carol(site: Site) -> Client:
    """A user who may log in but not submit."""
    return Client(site, "carol")


@pytest.fixture(scope="session")
def dave(site: Site) -> Client:
    """A user who manages reservations, and may cancel everybody's jobs."""
    return Client(site, "dave")


@pytest.fixture
def system(request: pytest.FixtureRequest, site: Site) -> System:
    """The system with Slurm, or the one that the test names."""
    return SYSTEMS[getattr(request, "param", "slurm")](site)
