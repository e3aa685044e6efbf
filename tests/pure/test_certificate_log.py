import json
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.certificate_log import FIRST, CertificateLog, CertificateLogError, line_hash, verified


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "certificates.log"


def written(path: Path, count: int = 5) -> list[bytes]:
    """The lines of a log of so many entries."""
    log = CertificateLog(path)
    for serial in range(count):
        log.append({"serial": serial, "user": "fcalice"})
    return path.read_bytes().splitlines(keepends=True)


def test_each_line_holds_the_hash_of_the_one_before(path: Path) -> None:
    lines = [line.rstrip() for line in written(path)]
    entries = [json.loads(line) for line in lines]
    assert [entry["serial"] for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry["former"] for entry in entries] == [FIRST, *map(line_hash, lines[:-1])]
    assert verified(path) == (5, line_hash(lines[-1]), [])
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_goes_on_after_a_restart(path: Path) -> None:
    first = CertificateLog(path).append({"serial": 1})
    second = CertificateLog(path).append({"serial": 2})
    assert json.loads(path.read_bytes().splitlines()[1])["former"] == first
    assert verified(path) == (2, second, [])


def _following(line: bytes) -> bytes:
    return json.dumps({"former": line_hash(line.rstrip()), "serial": 9}).encode() + b"\n"


TAMPERED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a word is changed": lambda lines: [*lines[:2], lines[2].replace(b"alice", b"mallo"), *lines[3:]],
    "a blank is added": lambda lines: [*lines[:2], lines[2].replace(b"{", b"{ "), *lines[3:]],
    "the first is removed": lambda lines: lines[1:],
    "one in the middle is removed": lambda lines: lines[:2] + lines[3:],
    "two change places": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "one is there twice": lambda lines: [*lines[:3], *lines[2:]],
    "one is inserted": lambda lines: [*lines[:2], _following(lines[1]), *lines[2:]],
    "an empty one is inserted": lambda lines: [*lines[:2], b"\n", *lines[2:]],
    "one in the middle is cut off": lambda lines: [*lines[:2], lines[2][:20] + b"\n", *lines[3:]],
    "one in the middle is cut off with its end": lambda lines: [*lines[:2], lines[2][:20], *lines[3:]],
    "one in the middle is emptied": lambda lines: [*lines[:2], b"\n", *lines[3:]],
    "a line break is gone": lambda lines: [*lines[:2], lines[2].rstrip(), *lines[3:]],
    "the last is cut off": lambda lines: [*lines[:4], lines[4][:20]],
    "the last has no line break": lambda lines: [*lines[:4], lines[4].rstrip()],
}


@pytest.mark.parametrize("case", TAMPERED)
def test_what_was_done_to_lines_is_found(path: Path, case: str) -> None:
    path.write_bytes(b"".join(TAMPERED[case](written(path))))
    with pytest.raises(CertificateLogError):
        verified(path)


def test_every_byte_counts(path: Path) -> None:
    """But for the last line, whose hash is to be noted elsewhere."""
    text = b"".join(written(path, 3))
    until = text.rindex(b"\n", 0, -1)
    for place in range(until):
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        with pytest.raises(CertificateLogError):
            verified(path)


def test_an_end_that_is_missing_is_found_with_a_hash_noted_elsewhere(path: Path) -> None:
    lines = written(path)
    last = verified(path).last
    path.write_bytes(b"".join(lines[:4]))
    assert verified(path).lines == 4, "nothing within it tells"
    with pytest.raises(CertificateLogError, match="no line has that hash"):
        verified(path, last)


def test_a_line_that_a_crash_cut_off_does_not_stop_the_log_and_is_told(path: Path) -> None:
    lines = written(path)
    path.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    CertificateLog(path).append({"serial": 5})
    CertificateLog(path).append({"serial": 6})
    assert verified(path).torn == [5]
    path.write_bytes(path.read_bytes().replace(b'"torn": true, ', b""))
    with pytest.raises(CertificateLogError):
        verified(path)


def test_a_log_that_is_put_aside_goes_on_in_the_next(path: Path) -> None:
    log = CertificateLog(path)
    log.append({"serial": 1})
    last = log.append({"serial": 2})
    aside = log.turn()
    log.append({"serial": 3})
    begun = json.loads(path.read_bytes().splitlines()[0])
    assert (begun["continues"], begun["ended"]) == (aside.name, last)
    assert verified(aside, begun["ended"]).lines == verified(path).lines == 2


def _write_many(path: Path) -> None:
    log = CertificateLog(path)
    threads = [threading.Thread(target=lambda: [log.append({"serial": serial}) for serial in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_processes_and_threads_that_write_at_once_leave_one_chain(path: Path) -> None:
    several = multiprocessing.get_context("spawn")
    processes = [several.Process(target=_write_many, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    aside = CertificateLog(path).turn()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    begun = json.loads(path.read_bytes().splitlines()[0])
    assert verified(path).lines - 1 + (verified(aside, begun["ended"]).lines if aside.stat().st_size else 0) == 120


def test_the_command_tells(path: Path) -> None:
    def verify(*words: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-m", "workers.certificate_log", *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    lines = written(path)
    assert verify("verify", str(path)) == (0, f"5 lines, unbroken; the last is {line_hash(lines[-1].rstrip())}\n")
    assert verify("verify", str(path), "0" * 63 + "1")[0] == 1
    assert verify("turn", str(path))[0] == 0
    path.write_bytes(b"".join(lines[1:]))
    code, said = verify("verify", str(path))
    assert (code, "line 1 does not follow" in said) == (1, True)


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        CertificateLog(tmp_path / "missing" / "log")
