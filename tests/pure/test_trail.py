"""Lines of the audit trail: bounded, one each, and joined again."""

import io
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from broker.trail import LOGGER, LONGEST_LINE, Trail, joined, main, open_trail, request_id
from schemas.settings import Audit


@pytest.fixture
def untouched() -> Iterator[None]:
    """The logger of the trail is as before when the test is over."""
    logger = logging.getLogger(LOGGER)
    before = logger.handlers[:], logger.propagate
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.propagate = before


def written(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("character", ["x", '"', "\n", "é", "😀", "\ud800"])
def test_no_line_is_longer_than_one_write_that_stays_whole(tmp_path: Path, untouched: None, character: str) -> None:
    open_trail(Audit(file=tmp_path / "trail"))
    long = character * 100_000
    certificates = [{"serial": str(2**64 - 1), "key_id": "k" * 300}] * 4
    Trail("worker").record(
        task=long, request="r" * 64, user=long, certificates=certificates, paths={"targetPath": long, "sourcePath": long}
    )
    Trail("api").record(path=long, agent=long, method=long, user=long, system=long)
    Trail("api").record(paths={str(number): long for number in range(50)}, user="ann")

    text = (tmp_path / "trail").read_text()
    assert len(text.splitlines()) == 3
    assert max(map(len, text.splitlines())) < LONGEST_LINE
    first, _, third = written(tmp_path / "trail")
    assert 10 < len(first["paths"]["targetPath"]) <= 300
    assert "paths" not in third


def test_paths_are_left_out_where_the_settings_say_so(tmp_path: Path, untouched: None) -> None:
    open_trail(Audit(file=tmp_path / "trail"))
    Trail("worker", paths=False).record(user="ann", paths={"targetPath": "/home/ann"})

    assert [line.keys() for line in written(tmp_path / "trail")] == [{"time", "part", "user"}]


def test_the_file_is_its_owners_alone_and_is_opened_anew_when_moved(tmp_path: Path, untouched: None) -> None:
    file = tmp_path / "trail"
    open_trail(Audit(file=file))
    Trail("api").record(user="ann")
    file.rename(tmp_path / "trail.1")
    Trail("api").record(user="bob")

    assert [line["user"] for line in written(tmp_path / "trail.1") + written(file)] == ["ann", "bob"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_keeps_the_process_from_starting(tmp_path: Path, untouched: None) -> None:
    with pytest.raises(OSError, match="No such file"):
        open_trail(Audit(file=tmp_path / "no" / "folder"))


def _write(file: Path, number: int) -> None:
    open_trail(Audit(file=file))
    for _ in range(200):
        Trail("api").record(user=str(number), agent="x" * 250, path="y" * 250)


def test_processes_share_a_file_and_no_line_is_torn(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_write, [tmp_path / "trail"] * 4, range(4)))

    assert sorted(line["user"] for line in written(tmp_path / "trail")) == sorted("0123" * 200)


def test_a_line_costs_little(tmp_path: Path, untouched: None) -> None:
    open_trail(Audit(file=tmp_path / "trail"))
    trail, began = Trail("api"), time.process_time()
    for number in range(2000):
        trail.record(
            request="r" * 32, user="ann", operation="utilities.Ls", task="t" * 32, status=200, ms=number, agent="python-requests/2.34"
        )

    assert (time.process_time() - began) / 2000 < 0.001


def test_ids_are_plain_words() -> None:
    assert request_id("6f0d6a4e-9d3c-4b0e-8a6e-1a2b3c4d5e6f") == "6f0d6a4e-9d3c-4b0e-8a6e-1a2b3c4d5e6f"
    for bad in ("", "a\n", "\na", "a" * 65, "_a", "a b", "é", "\u0661"):
        assert request_id(bad) != bad


ID = "firecrest user=ann task=t1 worker=w.1"
LINES = {
    "api": [
        {"part": "api", "request": "r1", "task": "t1", "user": "ann"},
        {"part": "api", "request": "r2", "task": "t2", "user": "ann"},
        {"part": "api", "request": "r3", "task": "t1", "operation": "tasks.OneTask"},
        {"part": "api", "request": "r4", "task": "t4"},
    ],
    "worker": [
        {"part": "worker", "request": "r1", "task": "t1", "certificates": [{"serial": "11", "key_id": ID}]},
        {"part": "worker", "request": "r2", "task": "t2", "certificates": [{"serial": "11", "key_id": ID}]},
        {"part": "worker", "request": "r4", "task": "t4", "certificates": [{"serial": "44", "key_id": ID}]},
        {"part": "worker", "task": "t1", "result": "given up"},
    ],
    "delegation": [{"serial": 11, "task": "t1", "request": "r1"}, {"serial": 44, "task": "t4", "request": "r4"}],
}
LOGIN = f"Accepted publickey for ann from 10.0.0.1 port 5 ssh2: ED25519-CERT SHA256:x ID {ID} (serial 11) CA ED25519 SHA256:y"
SSHD = ["Server listening on 127.0.0.1", LOGIN, LOGIN.replace("serial 11", "serial 44"), "Invalid user {x from 10.0.0.2"]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name, lines in LINES.items():
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "sshd").write_text("\n".join(SSHD) + "\n")
    noise = [
        "[1, 2]",
        '{"other": 1}',
        "{",
        "nothing",
        '{"part": "api"}',
        '{"part": {}, "certificates": 5}',
        '{"part": 1, "certificates": [1]}',
    ]
    (tmp_path / "noise").write_text("\n".join(noise))
    return [tmp_path / name for name in (*LINES, "sshd", "noise")]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("r1", ["api1", "api3", "worker1", "worker4", "delegation1", "sshd2"]),
        ("t1", ["api1", "api3", "worker1", "worker4", "delegation1", "sshd2"]),
        ("r2", ["api2", "worker2", "delegation1", "sshd2"]),
        ("11", ["api1", "api2", "api3", "worker1", "worker2", "worker4", "delegation1", "sshd2"]),
        ("44", ["api4", "worker3", "delegation2", "sshd3"]),
        ("nothing", []),
        ("", []),
    ],
)
def test_the_lines_of_a_request_a_task_or_a_certificate_are_found(files: list[Path], word: str, expected: list[str]) -> None:
    numbered = {line: f"{file.name}{number}" for file in files for number, line in enumerate(file.read_text().splitlines(), 1)}

    assert [numbered[line] for line in joined(word, files)] == expected


def test_what_was_done_comes_in_the_order_of_time(tmp_path: Path) -> None:
    for name, times in {"one": "35", "two": "14"}.items():
        (tmp_path / name).write_text("".join(f'{{"part": "api", "time": "{time}", "task": "t"}}\n' for time in times))

    assert [json.loads(line)["time"] for line in joined("t", [tmp_path / "one", tmp_path / "two"])] == ["1", "3", "4", "5"]


def test_the_command_prints_them(files: list[Path]) -> None:
    out = io.StringIO()

    assert main(["find", "r2", *map(str, files)], out) == 0
    assert len(out.getvalue().splitlines()) == 4
    assert main(["find", "r9", *map(str, files)], out) == 1
    assert main(["find"], out) == main([], out) == 2
