"""Uploads: from a client to a system, by way of the object store."""

import posixpath
import time
from typing import Any

from schemas.errors import CommandFailed, FirecrestError, LinkExpired, NotStaged, SizeLimit
from schemas.task import Status
from schemas.transfers import StageIn
from workers import copies
from workers.copies import Found, Run, Target
from workers.host import Host
from workers.performing import Ended, Rest, Step
from workers.staging.staging import Staged
from workers.transfers import MB, Transfer

_GRACE = 300  # what begins to come before its link expires may still be coming
_DELETED = "File was deleted from staging area. Start a new upload process"


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
        state.form = self._sealed(self._form(seconds))
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
            most = self.step.quota.left(self.most_staged) if size is None else None
            form = self.staging.form(self.place, self.op.source_path, seconds=seconds, size=size, most=most)
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
        if staged.size > self.store.max_file_size * MB:
            raise SizeLimit
        self.step.quota.take(staged.size, self.most_staged)
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
