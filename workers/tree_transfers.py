"""How directories pass between clients and systems, as tar archives: as files do, with a step more at the system's end."""

import posixpath
import time
from dataclasses import asdict
from typing import Any

from schemas.errors import CommandFailed
from schemas.task import Status
from schemas.transfers import ARCHIVE, StageOut
from workers import copies, trees
from workers.copies import Fate, Found, Measure, Run, Target
from workers.host import Command, Host
from workers.incoming import Incoming
from workers.outgoing import Outgoing
from workers.performing import Ended, Rest, Step
from workers.transfers import Transfer


class _Tree(Transfer):
    """What both directions have in common. The results are those of single files, once they are known."""

    results: trees.Results | None = None

    def _tell_files(self) -> None:
        self.results = self.host.run(trees.results(self.folder, seconds=self.seconds))

    def _next_run(self) -> None:
        self.state.run, self.state.running = self.state.run + 1, False

    def _ended_early(self, found: Found) -> Rest:
        if found.fate is Fate.FAILED:
            self._tell_files()
            raise CommandFailed(found.text)
        return super()._ended_early(found)

    def _decide(self, status: Status, data: Any) -> Rest | Ended:
        return super()._decide(status, data | asdict(self.results) if self.results and isinstance(data, dict) else data)


class TreeIn(_Tree, Incoming):
    """An upload: the archive is fetched as a file is, then unpacked, both under 113."""

    @property
    def work(self) -> str:
        """The directory, beside the target, in which the system keeps what is not yet whole."""
        return super().temporary

    @property
    def temporary(self) -> str:
        """The archive, while it comes."""
        return "" if self.state.unpacking else trees.archive(self.work)

    def _target(self) -> Target:
        return self.host.run(trees.resolve(self.op.target_path, self.op.arriving_name(), seconds=self.seconds))

    def _start(self, run: Run) -> None:
        if self.state.unpacking:
            self.host.run(trees.unpack(run, work=self.work, seconds=self.seconds))
            return
        self.host.run(trees.prepare(self.work, seconds=self.seconds))
        super()._start(run)

    def _whole(self, sums: tuple[str, ...]) -> Rest | Ended:
        if not self.state.unpacking:
            self._checked(sums, self.state.etag)
            self.state.unpacking = True
            self._next_run()
            return self._copy()
        self._tell_files()
        self.host.run(trees.place(self.folder, work=self.work, target=self.state.path, seconds=self.seconds))
        return self._fetched()

    def _clear(self) -> None:
        if self.state.begun:
            self.bare.run(copies.clear(self.folder, temporary=self.work, seconds=self.seconds))


class TreeOut(_Tree, Outgoing):
    """A download: the directory is measured, then sent, both under 116."""

    def __init__(self, op: StageOut, host: Host, step: Step) -> None:
        super().__init__(op, host, step)
        self.archive = posixpath.basename(op.source_path) + ARCHIVE
        self.place = self.staging.outgoing(step.user, step.task_id, self.archive)

    def _proceed(self) -> Rest | Ended:
        if not self.state.begun:
            self.state.path = self.host.run(trees.locate(self.op.source_path, seconds=self.seconds))
            self.state.begun = time.time()
            self._tell(Status.STAGING_OUT)
        return self._copy()

    def _start(self, run: Run) -> None:
        if self.state.version:
            super()._start(run)
        else:
            self.host.run(trees.measure(run, path=self.state.path, seconds=self.seconds))

    def _whole(self, sums: tuple[str, ...]) -> Rest | Ended:
        if not self.state.version:
            size, version = sums
            self._next_run()
            self._prepare(Measure(self.state.path, int(size), version))
            return self._copy()
        self._tell_files()
        return super()._whole(sums)

    def _sending(self, run: Run, urls: list[str]) -> Command[None]:
        return trees.send(run, urls, path=self.state.path, version=self.state.version, seconds=self.seconds)

    def _data(self) -> dict[str, Any]:
        return super()._data() | {"archive": self.archive}
