"""How files pass between clients and systems by way of the object store: in short steps, each of which may be made twice."""

import posixpath
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from schemas.errors import CommandFailed, CopyCutOff, FirecrestError, Stopped, TooManyRequests
from schemas.task import Status
from schemas.transfers import Progress, ReadableSource, Unstage, Writable
from workers import access, copies
from workers.compute import job_folder
from workers.confinement import also_within, unconfined
from workers.copies import Fate, Found, Run
from workers.host import Host
from workers.performing import Ended, Rest, Scene, Step, performs
from workers.staging.checksums import etag
from workers.staging.staging import Place

MB = 1024 * 1024
_LAST_HOUR = 3600  # of the grant: what has not ended by then is cleaned after while that can be done
_FIRST_LOOK, _LONGEST_LOOK = 0.2, 5.0
_LOOKS = 20  # in the time gone so far: what a look comes too late is a small share of it
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


@performs(Writable)
def writable(op: Writable, host: Host, scene: Scene) -> None:
    """Nothing; the directory can be written to (contract, 1.4)."""
    with access.hidden():
        host.run(access.writable(op.target_path, seconds=scene.limits.utilities_timeout))


@performs(ReadableSource)
def readable(op: ReadableSource, host: Host, scene: Scene) -> None:
    """Nothing; the file, or directory, can be read (contract, 1.4)."""
    check = access.readable_directory if op.directory else access.readable
    with access.hidden():
        host.run(check(op.source_path, seconds=scene.limits.utilities_timeout))


@performs(Unstage)
def unstage(op: Unstage, host: Host, scene: Scene) -> None:
    """Nothing; the file is not in the object store any more."""
    staging = scene.store.staging
    staging.delete(staging.outgoing(scene.user, op.task_id, posixpath.basename(op.source_path)))


class _State(BaseModel):
    """What a transfer keeps from step to step; moments are in Unix seconds.

    `path` is the file on the system, `begun` when it was to be copied first, `run` the number of the copy's current run,
    which is `running` once it was started; `unpacking` tells that the archive of a directory has come whole. `verdict` is how
    the task will end once it is cleaned after.
    """

    target: str = ""
    path: str = ""
    size: int = 0
    version: str = ""
    etag: str = ""
    part_size: int = 0
    upload: str = ""
    form: dict[str, Any] = {}
    expires: float = 0
    run: int = 1
    running: bool = False
    begun: float = 0
    moved: int = 0
    unpacking: bool = False
    pause: float = _FIRST_PAUSE
    failing: float = 0
    verdict: tuple[Status, Any] | None = None


class Transfer(ABC):
    """One step of a transfer: what both directions have in common."""

    place: Place
    copying: Status
    failed: Status

    def __init__(self, host: Host, step: Step) -> None:
        self.bare = unconfined(host)
        self.step = step
        self.state = _State.model_validate(step.state)
        self.host = also_within(host, self.state.path)
        self.status = step.status
        self.store = step.store.settings
        self.staging = step.store.staging
        self.folder = job_folder(step)
        self.seconds = step.limits.command_timeout

    def make(self) -> Rest | Ended:
        """Go on, if only to the next try."""
        try:
            if self.state.verdict:
                return self._conclude()
            if self.step.cleaning:
                return self._decide(Status.ERROR, None)
            if time.time() > self.step.expires - _LAST_HOUR:
                raise CommandFailed("The transfer has taken too long")
            return self._proceed()
        except Stopped:
            raise
        except FirecrestError as failure:
            return self._later() if self._may_go_well_later(failure) else self._decide(*self._failure(failure))

    @abstractmethod
    def _proceed(self) -> Rest | Ended:
        """What is to be done next."""

    @abstractmethod
    def _start(self, run: Run) -> None:
        """Have the system begin to copy."""

    @abstractmethod
    def _whole(self, sums: tuple[str, ...]) -> Rest | Ended:
        """What follows when the copy is there."""

    @abstractmethod
    def _data(self) -> dict[str, Any]:
        """What the task says at its present status."""

    @abstractmethod
    def _failure(self, failure: FirecrestError) -> tuple[Status, Any]:
        """How the task ends that has failed."""

    def _forget(self) -> None:
        """Remove from the object store what nobody needs, uploads too that were begun by a step that was lost."""
        status, _ = self._verdict()
        if self.step.cleaning or status is not Status.STAGED_OUT:
            self.staging.delete(self.place)
        if self.in_parts:
            self.staging.abort_all(self.place)

    @property
    @abstractmethod
    def in_parts(self) -> bool:
        """Whether the file may pass through the object store in parts."""

    @property
    def temporary(self) -> str:
        """The file under which the system keeps what has not come whole."""
        return ""

    def _sealed(self, links: Any) -> dict[str, str]:
        """Links of this task, as they may be kept."""
        return self.step.store.sealer.sealed(links, task_id=self.step.task_id, user=self.step.user)

    @property
    def most_staged(self) -> int:
        """How many bytes the user may have in the object store in all."""
        return self.store.staged_per_user * MB

    def _tell(self, status: Status) -> None:
        self.status = status
        self.step.tell(status, self._data(), self.state.model_dump(mode="json"))

    def _rest(self, seconds: float, topic: str = "") -> Rest:
        return Rest(self.status, self._data(), self.state.model_dump(mode="json"), seconds, topic)

    def _later(self) -> Rest:
        pause = self.state.pause
        self.state.pause = min(2 * pause, _LONGEST_PAUSE)
        return self._rest(pause)

    def _copy(self) -> Rest | Ended:
        self.status, state = self.copying, self.state
        run = Run(self.folder, state.run, state.size, state.part_size, self.store.systems_ca)
        if not state.running:
            self._start(run)
            state.running = True
            return self._rest(_FIRST_LOOK)
        found = self.host.run(copies.look(run, temporary=self.temporary, seconds=self.seconds))
        if found.fate is Fate.WHOLE:
            return self._whole(found.sums)
        return self._going_on(found) if found.fate is Fate.RUNNING else self._ended_early(found)

    def _going_on(self, found: Found) -> Rest:
        state = self.state
        if found.moved > state.moved:
            state.moved, state.failing, state.pause = found.moved, 0, _FIRST_PAUSE
        gone = max(0.001, time.time() - state.begun)
        rest = gone * (state.size - state.moved) / state.moved if state.moved else gone
        return self._rest(min(max(_FIRST_LOOK, rest / 2), max(_FIRST_LOOK, gone / _LOOKS), _LONGEST_LOOK))

    def _ended_early(self, found: Found) -> Rest:
        if not found.can_go_on():
            raise CommandFailed(found.text)
        self.state.run, self.state.running = self.state.run + 1, False
        raise CopyCutOff(found.text or "The copy on the system was ended from outside")

    def _may_go_well_later(self, failure: FirecrestError) -> bool:
        state = self.state
        state.failing = state.failing or time.time()
        lasting = not failure.transient and not isinstance(failure, TooManyRequests)
        return not lasting and time.time() - state.failing < self.store.retry_seconds

    def _decide(self, status: Status, data: Any) -> Rest | Ended:
        self.state.verdict = status, data
        self.state.failing, self.state.pause = 0, _FIRST_PAUSE
        self._tell(self.status)
        return self._conclude()

    def _conclude(self) -> Rest | Ended:
        """Leave nothing behind, then end. What cannot be removed for too long stays."""
        failures = [failure for failure in map(_failing, (self._clear, self._forget)) if failure]
        if any(map(self._may_go_well_later, failures)):
            return self._later()
        return Ended(*self._verdict())

    def _verdict(self) -> tuple[Status, Any]:
        return self.state.verdict or (Status.ERROR, None)

    def _clear(self) -> None:
        if self.state.begun:
            self.bare.run(copies.clear(self.folder, temporary=self.temporary, seconds=self.seconds))

    def _progress(self) -> dict[str, Any]:
        if not self.state.begun:
            return {}
        moved, seconds = min(self.state.moved, self.state.size), max(0.001, time.time() - self.state.begun)
        return {"progress": Progress(bytes=moved, total=self.state.size, rate=int(moved / seconds)).model_dump()}

    def _checked(self, sums: tuple[str, ...], staged: str) -> None:
        """Raises CommandFailed unless the parts with these sums make the file of that ETag."""
        found = etag([bytes.fromhex(one) for one in sums], in_parts="-" in staged)
        if found != staged:
            raise CommandFailed(f"The file has not come through as it is: its checksum is {found} instead of {staged}")


def _failing(function: Callable[[], None]) -> FirecrestError | None:
    """How the function fails, if it does."""
    try:
        function()
    except Stopped:
        raise
    except FirecrestError as failure:
        return failure
    return None
