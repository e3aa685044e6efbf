"""How files pass between clients and systems by way of the object store: in short steps, each of which may be made twice."""

import posixpath
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from schemas.errors import CommandFailed, CopyCutOff, FirecrestError, LinkExpired, NotStaged, SizeLimit, Stopped, TooManyRequests
from schemas.task import Status
from schemas.transfers import Progress, ReadableSource, StageIn, StageOut, Unstage, Writable
from workers import access, copies
from workers.compute import job_folder
from workers.copies import Fate, Found, Measure, Run, Target
from workers.host import Command, Host
from workers.performing import Ended, Rest, Scene, Step, performs
from workers.staging.checksums import etag
from workers.staging.staging import Place, Staged

_MB = 1024 * 1024
_LAST_HOUR = 3600  # of the grant: what has not ended by then is cleaned after while that can be done
_GRACE = 300  # what begins to come before its link expires may still be coming
_FIRST_LOOK, _LONGEST_LOOK = 0.3, 5.0
_LOOKS = 20  # in the time gone so far: what a look comes too late is a small share of it
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_DELETED = "File was deleted from staging area. Start a new upload process"


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
        self.host = host
        self.step = step
        self.state = _State.model_validate(step.state)
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
        run = Run(self.folder, state.run, state.size, state.part_size)
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
        return self._rest(min(max(_FIRST_LOOK, (time.time() - state.begun) / _LOOKS), _LONGEST_LOOK))

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
            self.host.run(copies.clear(self.folder, temporary=self.temporary, seconds=self.seconds))

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


class Incoming(Transfer):
    """An upload: 110, 111, 112, 113, and 114 or 115."""

    copying = Status.FETCHING

    def __init__(self, op: StageIn, host: Host, step: Step) -> None:
        super().__init__(host, step)
        self.op = op
        self.name = posixpath.basename(op.source_path)
        self.place = self.staging.incoming(step.user, step.task_id, self.name)
        if self.status is Status.QUEUED:
            self.status = Status.FORM_WAITED

    @property
    def temporary(self) -> str:
        """In the target's own directory."""
        return posixpath.join(posixpath.dirname(self.state.path), f".firecrest-{self.step.task_id}")

    def _proceed(self) -> Rest | Ended:
        if self.status is Status.FORM_WAITED:
            return self._offer()
        return self._await() if self.status is Status.FORM_READY else self._copy()

    def _offer(self) -> Rest:
        state, seconds = self.state, self.store.url_seconds
        target = self._target()
        state.target, state.path = target.shown, target.path
        self.staging.prepare(self.place)
        state.form = self._form(seconds)
        state.expires = time.time() + seconds + _GRACE
        self.status = Status.FORM_READY
        return self._waiting(seconds + _GRACE)

    @property
    def in_parts(self) -> bool:
        """Whether the file may, or must, come in parts."""
        return self.op.size is not None and (self.op.multipart or self.op.size > self.staging.form_limit)

    def _target(self) -> Target:
        return self.host.run(copies.resolve(self.op.target_path, self.name, seconds=self.seconds))

    def _form(self, seconds: int) -> dict[str, Any]:
        size, form = self.op.size, None
        if size is None or size <= self.staging.form_limit:
            form = self.staging.form(self.place, self.op.source_path, seconds=seconds, size=size)
        offered: dict[str, Any] = {"command": form.command, "parameters": form.parameters} if form else {"parameters": {}}
        if size is not None and self.in_parts:
            self.state.upload = self.state.upload or self.staging.begin(self.place)
            parts = self.staging.parts_to_send(self.place, self.state.upload, size=size, seconds=seconds, side="clients")
            self.state.part_size = parts.part_size
            offered["parameters"] |= parts.parameters()
        return offered

    def _await(self) -> Rest | Ended:
        staged = self.staging.found(self.place)
        if staged is not None:
            self._take(staged)
            return self._copy()
        left = self.state.expires - time.time()
        if left <= 0:
            raise LinkExpired("The link has expired before the file came")
        return self._waiting(left)

    def _waiting(self, left: float) -> Rest:
        """Until the file is seen to come; where it may come unseen, until it is asked for, twice as late each time."""
        if self.store.doubt_seconds:
            waited = self.store.url_seconds + _GRACE - left
            left = min(left, max(self.store.doubt_seconds, waited))
        return self._rest(left, self.place.bucket)

    def _take(self, staged: Staged) -> None:
        state = self.state
        if self.op.size not in (None, staged.size):
            raise CommandFailed(f"The file that came has {staged.size} bytes instead of {self.op.size}")
        if staged.size > self.store.max_file_size * _MB:
            raise SizeLimit
        state.size, state.etag = staged.size, staged.etag
        state.part_size = (state.part_size if "-" in staged.etag else 0) or staged.size
        state.begun = time.time()
        self._tell(Status.STAGED_IN)

    def _start(self, run: Run) -> None:
        url = self.staging.download_url(self.place, seconds=self.store.url_seconds, side="systems")
        self.host.run(copies.fetch(run, url, temporary=self.temporary, etag=self.state.etag, seconds=self.seconds))

    def _ended_early(self, found: Found) -> Rest:
        if not found.can_go_on():
            staged = self.staging.found(self.place)
            if staged is None:
                raise NotStaged(_DELETED)
            if staged.etag != self.state.etag:
                raise CommandFailed("The file was replaced in the staging area while the system fetched it")
        return super()._ended_early(found)

    def _whole(self, sums: tuple[str, ...]) -> Rest | Ended:
        self._checked(sums, self.state.etag)
        self.host.run(copies.place(self.folder, temporary=self.temporary, target=self.state.path, seconds=self.seconds))
        return self._fetched()

    def _fetched(self) -> Rest | Ended:
        self.state.moved = self.state.size
        return self._decide(Status.FETCHED, self._data() | {"size": self.state.size, "etag": self.state.etag})

    def _data(self) -> dict[str, Any]:
        if self.status is Status.FORM_WAITED:
            return self._described(f"Waiting for Presigned URL to upload file to staging area ({self.staging.title})", Status.FORM_WAITED)
        if self.status is Status.FETCHING:
            system = self.step.system
            facts = {"source": self.name, "target": self.state.target, "system_name": system.name, "system_addr": self._address()}
            return facts | self._progress()
        return self._described(self.state.form, Status.FORM_READY)

    def _failure(self, failure: FirecrestError) -> tuple[Status, Any]:
        text = failure.text or failure.says or failure.value or ""
        if isinstance(failure, NotStaged):
            return Status.ERROR, text
        if self.status is Status.FETCHING:
            return Status.FETCH_FAILED, self._described(self.state.form, Status.FETCH_FAILED) | {"error": text}
        return Status.ERROR, self._described(text, Status.ERROR)

    def _described(self, message: Any, status: Status) -> dict[str, Any]:
        return {
            "user": self.step.user,
            "system_name": self.step.system.name,
            "system_addr": self._address(),
            "target": self.state.target or self.op.target_path,
            "source": self.name,
            "status": status.value,
            "hash_id": self.step.task_id,
            "trace_id": "",
            "msg": message,
        }

    def _address(self) -> str:
        return f"{self.step.system.host}:{self.step.system.port}"


class Outgoing(Transfer):
    """A download: 116, and 117 or 118."""

    copying = Status.STAGING_OUT

    def __init__(self, op: StageOut, host: Host, step: Step) -> None:
        super().__init__(host, step)
        self.op = op
        self.place = self.staging.outgoing(step.user, step.task_id, posixpath.basename(op.source_path))
        self.status = Status.STAGING_OUT

    @property
    def in_parts(self) -> bool:
        """Whether it is too large for one request."""
        return self.state.size > self.store.part_size * _MB

    def _proceed(self) -> Rest | Ended:
        if not self.state.version:
            self._prepare(self.host.run(copies.measure(self.op.source_path, seconds=self.seconds)))
        return self._copy()

    def _prepare(self, file: Measure) -> None:
        state = self.state
        state.path, state.size, state.part_size = file.path, file.size, file.size
        self.staging.prepare(self.place)
        state.version, state.begun = file.version, time.time()
        self._tell(Status.STAGING_OUT)

    def _start(self, run: Run) -> None:
        state, seconds = self.state, self.store.url_seconds
        if state.size > self.store.max_file_size * _MB:
            raise SizeLimit
        if self.in_parts:
            self._begin()
            parts = self.staging.parts_to_send(self.place, state.upload, size=state.size, seconds=seconds, side="systems")
            urls, state.part_size = [slot.url for slot in parts.slots], parts.part_size
        else:
            urls = [self.staging.upload_url(self.place, size=state.size, seconds=seconds, side="systems")]
        self.host.run(self._sending(Run(run.folder, run.number, run.size, state.part_size), urls))

    def _begin(self) -> None:
        if not self.state.upload:
            self.state.upload = self.staging.begin(self.place)
            self._tell(Status.STAGING_OUT)

    def _sending(self, run: Run, urls: list[str]) -> Command[None]:
        return copies.send(run, urls, path=self.state.path, version=self.state.version, seconds=self.seconds)

    def _ended_early(self, found: Found) -> Rest:
        if found.names_nothing():
            # an object store in trouble says so too: Swift, of every bucket, without its account server
            if self.state.upload:
                self.staging.parts(self.place, self.state.upload)
            else:
                self.staging.prepare(self.place)
            found = Found(Fate.LOST, text=found.text)
        return super()._ended_early(found)

    def _whole(self, sums: tuple[str, ...]) -> Rest | Ended:
        size = self.state.size
        staged = self.staging.complete(self.place, self.state.upload, size=size) if self.state.upload else self.staging.found(self.place)
        if staged is None:
            raise NotStaged("The file is not in the Staging Area")
        self._checked(sums, staged.etag)
        self.state.moved = size
        url = self.staging.download_url(self.place, seconds=self.store.url_seconds, side="clients")
        return self._decide(Status.STAGED_OUT, {"url": url} | self._data() | {"size": size, "etag": staged.etag})

    def _data(self) -> dict[str, Any]:
        return {"source": self.op.source_path, "system_name": self.step.system.name} | self._progress()

    def _failure(self, failure: FirecrestError) -> tuple[Status, Any]:
        text = failure.text or failure.says or failure.value or ""
        if not self.state.begun:
            return Status.ERROR, {"error": text} | self._data()
        name = posixpath.basename(self.op.source_path)
        return Status.STAGING_OUT_FAILED, {"error": f"Upload to Staging area has failed. Object: {name}. {text}"} | self._data()
