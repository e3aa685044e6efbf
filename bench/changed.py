"""The site with other settings for a while."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from bench.stage import CLIENT
from tests.real_site import Client, Site, eventually


@contextmanager
def changed(site: Site, section: str, values: Mapping[str, Any], *, restarted: tuple[str, ...]) -> Iterator[None]:
    """The site with other values in a section of its settings, in the programs that are restarted for it; then as it was."""
    before = yaml.safe_load(Path(site.facts["settings"]).read_text(encoding="utf-8"))
    with replaced(site, {section: {**before.get(section, {}), **values}}, restarted=restarted):
        yield


@contextmanager
def replaced(site: Site, sections: Mapping[str, Any], *, restarted: tuple[str, ...]) -> Iterator[None]:
    """The site with other sections in its settings, in the same way."""
    try:
        with written(site, sections):
            _restart(site, restarted)
            yield
    finally:
        _restart(site, restarted)


@contextmanager
def written(site: Site, sections: Mapping[str, Any]) -> Iterator[None]:
    """Other sections in the file of the site's settings, for programs that start meanwhile."""
    path = Path(site.facts["settings"])
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(yaml.safe_dump({**yaml.safe_load(before), **sections}), encoding="utf-8")
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def each(site: Site, action: str, programs: Sequence[str]) -> None:
    """Have the supervisor `start`, `stop` or `restart` the programs, all at once: else each would wait for the end of the one before."""
    with ThreadPoolExecutor(len(programs)) as pool:
        list(pool.map(lambda program: site.supervisor(action, program), programs))


def await_calls(site: Site) -> None:
    """Wait until a call through the whole gateway is answered."""
    client = Client(site, CLIENT)

    def up() -> bool:
        with suppress(OSError):
            return client.get("/utilities/whoami").status_code == 200
        return False

    eventually(up, seconds=180)


def _restart(site: Site, programs: tuple[str, ...]) -> None:
    each(site, "restart", programs)
    await_calls(site)
    time.sleep(2)  # the other worker too
