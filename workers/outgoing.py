"""Downloads: from a system to a client, by way of the object store."""

import posixpath
import time
from dataclasses import replace
from typing import Any

from schemas.errors import FirecrestError, NotStaged, SizeLimit
from schemas.task import Status
from schemas.transfers import StageOut
from workers import copies
from workers.copies import Fate, Found, Measure, Run
from workers.host import Command, Host
from workers.performing import Ended, Rest, Step
from workers.transfers import MB, Transfer


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
        return self.state.size > self.store.part_size * MB

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
        if state.size > self.store.max_file_size * MB:
            raise SizeLimit
        self.step.quota.take(state.size, self.most_staged)
        if self.in_parts:
            self._begin()
            parts = self.staging.parts_to_send(self.place, state.upload, size=state.size, seconds=seconds, side="systems")
            urls, state.part_size = [slot.url for slot in parts.slots], parts.part_size
        else:
            urls = [self.staging.upload_url(self.place, size=state.size, seconds=seconds, side="systems")]
        self.host.run(self._sending(replace(run, part_size=state.part_size), urls))

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
        return self._decide(Status.STAGED_OUT, {"url": self._sealed(url)} | self._data() | {"size": size, "etag": staged.etag})

    def _data(self) -> dict[str, Any]:
        return {"source": self.op.source_path, "system_name": self.step.system.name} | self._progress()

    def _failure(self, failure: FirecrestError) -> tuple[Status, Any]:
        text = failure.text or failure.says or failure.value or ""
        if not self.state.begun:
            return Status.ERROR, {"error": text} | self._data()
        name = posixpath.basename(self.op.source_path)
        return Status.STAGING_OUT_FAILED, {"error": f"Upload to Staging area has failed. Object: {name}. {text}"} | self._data()
