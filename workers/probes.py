"""What the service looks at by itself on every beat: SSH servers, file systems, schedulers and the object store, in no user's name."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from broker.health import Health, Probe
from schemas.errors import CommandFailed, FirecrestError, TimedOut
from schemas.settings import Settings, System
from workers.host import Command, Host
from workers.reachability import answers
from workers.schedulers import SCHEDULERS
from workers.staging import STAGINGS
from workers.staging.staging import Staging

_LOG = logging.getLogger(__name__)
OpenProbe = Callable[[System], Host]
_PERIODS = 3


class Prober:
    """Looks at systems and the object store and keeps what it finds; `enter` gives a system entered as its `probe_user`."""

    def __init__(self, health: Health, settings: Settings, enter: OpenProbe) -> None:
        self._health = health
        self._settings = settings
        self._enter = enter
        self._staging = _patient(settings)
        self._looks: dict[Probe, Callable[[System], dict[str, bool]]] = {
            Probe.SYSTEM: self._ssh,
            Probe.FILESYSTEMS: self._filesystems,
            Probe.SCHEDULER: self._scheduler,
        }

    def probe(self, probe: Probe, name: str) -> None:
        """Look at a system, or at the object store; nothing is kept when a system could not be entered."""
        if probe is Probe.STORAGE and self._staging:
            self._health.record(probe, name, {name: _is_there(self._staging)})
            return
        system = self._settings.system(name)
        if system and (probe is Probe.SYSTEM or self._reached(system)):
            try:
                self._health.record(probe, name, self._looks[probe](system))
            except FirecrestError as failed:
                _LOG.warning("%s of %s: %s", probe, name, failed.text or failed.value)

    def _reached(self, system: System) -> bool:
        """Whether it is worth entering: a system that hangs would keep us for long."""
        lately = self._health.lately(Probe.SYSTEM, seconds=_PERIODS * self._settings.probes.system_period)
        return all(lately.get(system.name, {}).values())

    def _ssh(self, system: System) -> dict[str, bool]:
        return {"ssh": answers(system, seconds=self._settings.probes.system_timeout)}

    def _filesystems(self, system: System) -> dict[str, bool]:
        paths = [filesystem.path for filesystem in system.filesystems]
        return self._enter(system).run(look_into(paths, seconds=self._settings.probes.filesystem_timeout)) if paths else {}

    def _scheduler(self, system: System) -> dict[str, bool]:
        ping = SCHEDULERS[system.scheduler].ping()
        try:
            well = self._enter(system).run(replace(ping, seconds=self._settings.probes.scheduler_timeout, repeatable=True))
        except (CommandFailed, TimedOut):
            well = False
        return {system.scheduler: well}


def _patient(settings: Settings) -> Staging | None:
    """The object store, if there is one, with the patience of a probe."""
    if settings.storage is None:
        return None
    storage = settings.storage.model_copy(update={"patience": settings.probes.storage_timeout})
    return STAGINGS[storage.technology](storage)


def _is_there(staging: Staging) -> bool:
    try:
        staging.check()
    except FirecrestError as failed:
        _LOG.warning("the object store: %s", failed.text)
        return False
    return True


# Looks for an entry in all directories at once, each within its own time, and ends in time whatever becomes of them: a
# process that cannot even be killed keeps only the pipe open.
_LOOK = r"""
seconds=$1; shift
for path; do
  timeout -s KILL "$seconds" find -H "$path" -mindepth 1 -maxdepth 1 -printf '%H\0' -quit 2>/dev/null &
done | timeout "$((seconds + 1))" cat
exit 0
"""


def look_into(paths: Sequence[str], *, seconds: int) -> Command[dict[str, bool]]:
    """For each directory, whether it can be listed and has an entry: a mount point that nothing is mounted on is empty."""

    def parse(stdout: bytes) -> dict[str, bool]:
        found = stdout.decode(errors="surrogateescape").split("\0")
        return {path: path in found for path in paths}

    return Command(("sh", "-c", _LOOK, "sh", str(seconds), *paths), parse, seconds=seconds + 3, repeatable=True)
