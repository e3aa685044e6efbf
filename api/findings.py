"""How systems, file systems and the object store fare, judged by what the service's own probes have found."""

from dataclasses import dataclass

from broker.health import Health, Probe
from schemas.settings import Filesystem, Settings, System
from schemas.status import FilesystemStatus, SystemStatus

MISSED_PERIODS = 3
_SLACK = 2


@dataclass(frozen=True)
class Findings:
    """What the probes have lately found, by name of system."""

    systems: dict[str, dict[str, bool]]
    filesystems: dict[str, dict[str, bool]]
    schedulers: dict[str, dict[str, bool]]

    def up(self, system: System) -> bool:
        """Whether the system can be reached."""
        return self.systems.get(system.name) == {"ssh": True}

    def system(self, system: System) -> SystemStatus:
        """How a system fares; one that can be entered is available, whatever it lacks."""
        if system.name not in self.systems:
            return SystemStatus(system=system.name, status="not available", description="System has not been probed lately")
        if not self.up(system):
            return SystemStatus(system=system.name, status="not available", description="System does not accept connections")
        lacking = ". ".join(self._lacking(system))
        return SystemStatus(system=system.name, status="available", description=lacking or "System ready")

    def _lacking(self, system: System) -> list[str]:
        files, scheduler = self.filesystems.get(system.name, {}), self.schedulers.get(system.name, {})
        lost = [filesystem.path for filesystem in system.filesystems if not files.get(filesystem.path, True)]
        return [
            *([f"Filesystem {','.join(lost)} is not available"] if lost else []),
            *(f"Scheduler {name} is not available" for name, well in scheduler.items() if not well),
        ]

    def filesystem(self, system: System, filesystem: Filesystem) -> FilesystemStatus:
        """How a file system of a system fares: as the system does if nobody can look into it."""
        well, note = self._look_into(system, filesystem.path)
        status, code = ("available", 200) if well else ("not available", 400)
        description = " ".join(words for words in (filesystem.description, note) if words)
        return FilesystemStatus(name=filesystem.name, path=filesystem.path, description=description, status=status, status_code=code)

    def _look_into(self, system: System, path: str) -> tuple[bool, str]:
        """Whether a file system can be used, and what is to be said of how that is known."""
        if not system.probe_user:
            return self.up(system), "(not probed itself: this is the status of the system)"
        if not self.up(system):
            return False, ""
        found = self.filesystems.get(system.name, {}).get(path)
        return bool(found), "(has not been probed lately)" if found is None else ""


def storage_lacks(health: Health, settings: Settings) -> str:
    """What keeps the object store from being used; nothing when there is none."""
    if settings.storage is None:
        return ""
    every, name = settings.probes, settings.storage.technology
    found = health.lately(Probe.STORAGE, seconds=MISSED_PERIODS * every.storage_period + 2 * every.storage_timeout + _SLACK)
    if name not in found:
        return "object store has not been probed lately"
    return "" if found[name][name] else "object store down"


def findings(health: Health, settings: Settings) -> Findings:
    """What is known just now."""
    every = settings.probes

    def lately(probe: Probe, period: float, timeout: float) -> dict[str, dict[str, bool]]:
        return health.lately(probe, seconds=MISSED_PERIODS * period + timeout + _SLACK)

    return Findings(
        lately(Probe.SYSTEM, every.system_period, every.system_timeout),
        lately(Probe.FILESYSTEMS, every.filesystem_period, every.filesystem_timeout),
        lately(Probe.SCHEDULER, every.scheduler_period, every.scheduler_timeout),
    )
