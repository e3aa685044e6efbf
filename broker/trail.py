"""The audit trail: one line of JSON per deed, and `python -m broker.trail find`, which joins the lines that belong together."""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Final, TextIO
from uuid import uuid4

from schemas.settings import Audit

LOGGER: Final = "firecrest.audit"
# One write of so much stays whole, in a pipe and at the end of a file, however many processes write there (POSIX, PIPE_BUF).
LONGEST_LINE: Final = 4096
_LONGEST_VALUE: Final = 300
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SSHD: Final = re.compile(r'ID "?(?P<key_id>firecrest [ -!#-~]{1,300}?)"? \(serial (?P<serial>[0-9]{1,20})\)')

_LOG = logging.getLogger(LOGGER)
_LOG.setLevel(logging.INFO)


def request_id(sent: str) -> str:
    """The id that the client gave to its request, if that is one plain word of at most 64 characters; a new one otherwise."""
    return sent if _REQUEST_ID.fullmatch(sent) else uuid4().hex


class Trail:
    """Writes what one part of the service does; `paths` says whether the paths that operations name are written, too."""

    def __init__(self, part: str, *, paths: bool = True) -> None:
        self._part = part
        self._paths = paths

    def record(self, *, paths: dict[str, Any] | None = None, **facts: Any) -> None:
        """Write a line; facts that are empty are left out, texts that are too long are cut, and paths left out that make it too long."""
        told = {"time": _now(), "part": self._part} | {name: _cut(value) for name, value in facts.items() if value not in (None, "", [])}
        line = json.dumps(told)
        if paths and self._paths:
            longer = f'{line[:-1]}, "paths": {json.dumps({name: _cut(value) for name, value in paths.items()})}}}'
            line = longer if len(longer) < LONGEST_LINE else line
        # not _LOG.info(), which looks up who calls it
        _LOG.handle(logging.LogRecord(LOGGER, logging.INFO, __file__, 0, line, None, None))


def open_trail(audit: Audit) -> None:
    """Have the lines of this process go where the settings say. Raises OSError when the file cannot be written."""
    handler = _PrivateFile(audit.file) if audit.file else logging.StreamHandler(sys.__stdout__)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOG.handlers[:] = [handler]
    _LOG.propagate = False


class _PrivateFile(WatchedFileHandler):
    """A file of the owner's own; opened anew when it was moved away."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="ascii")

    def _open(self) -> Any:
        return os.fdopen(os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding=self.encoding)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cut(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= _LONGEST_VALUE // 12:  # what JSON makes of a character takes twelve bytes at most
        return value
    value = value[:_LONGEST_VALUE]
    while len(json.dumps(value)) > _LONGEST_VALUE:
        value = value[: len(value) * 3 // 4]
    return value


@dataclass(frozen=True)
class Mark:
    """What a line tells of itself: the request and the task that it is of, and the certificates that it names.

    `deed`: it is of the trail, and tells what was done; otherwise it tells of a certificate, or of a login with it.
    """

    text: str
    deed: bool
    time: str
    request: str
    task: str
    serials: frozenset[str]

    def names(self, word: str) -> bool:
        """Whether it is of that request or task, or names that certificate."""
        return word != "" and (word in (self.request, self.task) or word in self.serials)


def mark(text: str) -> Mark | None:
    """What a line of the trail, of the delegation's log of certificates, or of sshd's log tells; None for any other."""
    if said := _SSHD.search(text):
        return Mark(text, deed=False, time="", request="", task="", serials=frozenset([said["serial"]]))
    facts = _facts(text)
    if not ("part" in facts or "serial" in facts):
        return None
    used = facts.get("certificates")
    certificates = [facts, *(one for one in (used if isinstance(used, list) else []) if isinstance(one, dict))]
    serials = [one["serial"] for one in certificates if "serial" in one]
    time, request, task = (str(facts.get(name, "")) for name in ("time", "request", "task"))
    return Mark(text, "serial" not in facts, time, request, task, frozenset(map(str, serials)))


def _facts(text: str) -> dict[str, Any]:
    start = text.find("{")
    try:
        facts = json.loads(text[start:]) if start >= 0 else None
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def joined(word: str, files: list[Path]) -> Iterator[str]:
    """All lines on a request, a task or a certificate: what was done, by its time, then the certificates that it was done with.

    A certificate opens a connection, on which tasks of other requests may run: only who asks for the certificate is told of all of them.
    """
    own = [found for found in _marks(files) if found.names(word)]
    requests = {found.request for found in own} - {""}
    tasks = {found.task for found in own} - {""}
    deeds = [found for found in _marks(files) if found.deed and (found.request in requests or found.task in tasks)]
    certain = any(word in found.serials for found in own)
    serials = {word} if certain else {serial for found in deeds for serial in found.serials}
    yield from (found.text for found in sorted(deeds, key=lambda found: found.time))
    yield from (found.text for found in _marks(files) if not found.deed and found.serials & serials)


def _marks(files: list[Path]) -> Iterator[Mark]:
    for path in files:
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from filter(None, (mark(line.rstrip("\n")) for line in lines))


def main(words: list[str], out: TextIO) -> int:
    """`find REQUEST_ID|TASK_ID|SERIAL FILE…`; 0 when there is such a line, 1 when there is none, 2 for anything else."""
    if len(words) < 3 or words[0] != "find":
        sys.stderr.write("python -m broker.trail find REQUEST_ID|TASK_ID|SERIAL FILE...\n")
        return 2
    found = False
    for line in joined(words[1], [Path(word) for word in words[2:]]):
        found = True
        out.write(line + "\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
