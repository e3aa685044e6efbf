"""The log of all certificates: a file that is only appended to, each line of which holds the hash of the line before.

`python -m workers.certificate_log verify FILE [HASH]` finds lines that were changed, removed, inserted or cut off; with the hash of a line
that was noted elsewhere (the delegation's ordinary log tells each), also an end that is missing and a log that was written anew.
`python -m workers.certificate_log turn FILE` puts the log aside, and begins another that goes on from it.
"""

import argparse
import fcntl
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

FIRST: Final = "0" * 64


class CertificateLogError(Exception):
    """The log is not as it was written."""


class CertificateLog:
    """Appends to a log, from any thread of any number of processes of this host. Raises OSError when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        with _held(path):
            pass

    def append(self, entry: dict[str, Any]) -> str:
        """Have the entry on the disk, and return the hash of its line; raises OSError, and then it may be there or not."""
        with self._threads, _held(self._path) as file:
            return _append(file, entry)

    def turn(self) -> Path:
        """Put the log aside under the name that is returned, and begin another that states how the last one ended."""
        aside = self._path.with_name(f"{self._path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
        with self._threads, _held(self._path) as file:
            end = line_hash(_last_line(file).removesuffix(b"\n"))
            with _opened(fresh := self._path.with_name(f".{self._path.name}.new")) as new:
                _append(new, {"continues": aside.name, "ended": end})
            os.link(self._path, aside)
            fresh.replace(self._path)
            _keep_names(self._path.parent)
        return aside


class Verdict(NamedTuple):
    """How many lines a log has, the hash of the last one, and the numbers of those that were cut off before the next was written."""

    lines: int
    last: str
    torn: list[int]


def verified(path: Path, known: str = FIRST) -> Verdict:
    """What a log is found to be; raises CertificateLogError for one that is not as it was written, or has no line with the hash `known`."""
    former, pending, torn, number, seen, line = FIRST, 0, [], 0, known == FIRST, b"\n"
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            entry = _entry(line)
            if entry is not None and entry["former"] != former:
                raise CertificateLogError(f"line {number} does not follow the one before it: lines were changed, removed or inserted")
            if pending and not (entry or {}).get("torn"):
                raise CertificateLogError(f"line {pending} was changed or cut off")
            torn += [pending] if pending else []
            pending = number if entry is None else 0
            former = line_hash(line.removesuffix(b"\n"))
            seen = seen or former == known
    if pending or not line.endswith(b"\n"):
        raise CertificateLogError(f"line {number}, the last, is cut off")
    if not seen:
        raise CertificateLogError("no line has that hash: the end is missing, or the log was written anew")
    return Verdict(number, former, torn)


def line_hash(line: bytes) -> str:
    """What the next line says of this one (without its line break): SHA-256, or zeros for none."""
    return hashlib.sha256(line).hexdigest() if line else FIRST


@contextmanager
def _held(path: Path) -> Iterator[BinaryIO]:
    """The log, locked against other processes; the one that has the name now, if it was put aside meanwhile."""
    while True:
        made = not path.exists()
        with _opened(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                if made:
                    _keep_names(path.parent)
                yield file
                return


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab+")


def _append(file: BinaryIO, entry: dict[str, Any]) -> str:
    last = _last_line(file)
    whole = not last or last.endswith(b"\n")
    mark = {} if whole else {"torn": True}
    line = json.dumps({"former": line_hash(last.removesuffix(b"\n")), **mark, "at": round(time.time(), 3), **entry}).encode()
    # In one piece, so that a crash leaves at most one line that is not whole, and the next writer says so.
    file.write((b"" if whole else b"\n") + line + b"\n")
    file.flush()
    os.fsync(file.fileno())
    return line_hash(line)


def _last_line(file: BinaryIO) -> bytes:
    """With its line break, if it has one; empty when there is none."""
    size, length = file.seek(0, os.SEEK_END), 4096
    while True:
        file.seek(max(0, size - length))
        lines = file.read().splitlines(keepends=True)
        if len(lines) > 1 or length >= size:
            return lines[-1] if lines else b""
        length *= 2


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("former"), str) else None


def _keep_names(folder: Path) -> None:
    """Have a new name in the folder on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(words: list[str]) -> int:
    """Do what the command line says; 1 for a log that is not as it was written."""
    parser = argparse.ArgumentParser(prog="python -m workers.certificate_log", description="Verify the log, or put it aside.")
    parser.add_argument("what", choices=["verify", "turn"])
    parser.add_argument("file", type=Path)
    parser.add_argument("hash", nargs="?", default=FIRST, help="of a line that must be in it")
    asked = parser.parse_args(words)
    if asked.what == "turn":
        sys.stdout.write(f"{CertificateLog(asked.file).turn()}\n")
        return 0
    try:
        found = verified(asked.file, asked.hash)
    except CertificateLogError as wrong:
        sys.stderr.write(f"{asked.file}: {wrong}\n")
        return 1
    for number in found.torn:
        sys.stdout.write(f"line {number} was cut off, by a crash before its certificate was given or by somebody; the next line says so\n")
    sys.stdout.write(f"{found.lines} lines, unbroken; the last is {found.last}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
