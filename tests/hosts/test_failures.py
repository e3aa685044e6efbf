"""The error table of the contract (1.2.3), on what real commands say to a user who may not do everything, in two locales."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.errors import (
    ADirectory,
    CommandFailed,
    CommandRefused,
    Exists,
    FirecrestError,
    InvalidGroup,
    InvalidMode,
    InvalidOwner,
    InvalidPath,
    MachineNotAvailable,
    NotADirectory,
    NotFound,
    PatternNotFound,
    PermissionDenied,
    TimedOut,
)
from tests.real_site import not_here
from workers.archives import packing, unpacking
from workers.contents import lines_with
from workers.failures import RULES, _complaints
from workers.host import Command, Finished
from workers.utilities import kind

Run = Callable[..., Finished]

INVALID = {"X-Invalid-Path": "path is an invalid path"}
NO_SOURCE = {"X-Not-Found": "sourcePath not found"}
NEITHER = {"X-Invalid-Path": "sourcePath and/or targetPath are invalid paths"}
DENIED = {"X-Permission-Denied": "User does not have permissions to access path"}
EXISTS = {"X-Exists": "targetPath already exists"}
NO_FOLDER = {"X-Not-A-Directory": "targetPath is not a directory"}
A_FOLDER = {"X-A-Directory": "path is a directory, can't checksum directories"}
ENDED = "Command has finished with timeout signal"

FIRST = 5  # the number of the first rule that is about words

# the rule's number, the command, the kind, the header, and what the text says
CASES = [
    ("1", ("sh", "-c", "exit 113"), MachineNotAvailable, {"X-Machine-Not-Available": "Machine is not available"}, "is not available"),
    ("2", ("timeout", "0.1", "sleep", "5"), TimedOut, {"X-Timeout": ENDED}, ENDED),
    ("3", ("sh", "-c", "exit 118"), CommandRefused, {"X-Error": "Command execution is not allowed in machine"}, "is not allowed"),
    ("5", ("ls", "--", "missing"), InvalidPath, INVALID, "ls: cannot access"),
    ("5", ("ls", "--", "closed/x"), InvalidPath, INVALID, "Permission denied"),
    ("5", ("chmod", "-v", "--", "600", "missing"), InvalidPath, INVALID, "chmod: cannot access"),
    ("5", ("chown", "-v", "--", "root:", "missing"), InvalidPath, INVALID, "chown: cannot access"),
    ("6", ("stat", "--", "missing"), NotFound, NO_SOURCE, "stat: cannot stat"),
    ("6", ("cp", "--", "missing", "x"), NotFound, NO_SOURCE, "cp: cannot stat"),
    ("6", ("mv", "--force", "--", "missing", "x"), NotFound, NO_SOURCE, "mv: cannot stat"),
    ("7", ("cp", "--", "file", "missing/x"), InvalidPath, NEITHER, "cannot create regular file"),
    ("7", ("mv", "--force", "--", "file", "missing/x"), InvalidPath, NEITHER, "cannot move"),
    ("7", ("mkdir", "--", "missing/x"), InvalidPath, NEITHER, "cannot create directory"),
    ("7", unpacking("good.zip", "missing/x", kind="zip"), InvalidPath, NEITHER, "cannot create extraction directory"),
    ("8", ("rm", "-r", "--", "missing"), InvalidPath, {"X-Invalid-Path": "path is an invalid path."}, "cannot remove"),
    ("9", ("head", "--", "missing"), InvalidPath, INVALID, "head: cannot open"),
    ("9", ("sha256sum", "--", "missing"), InvalidPath, INVALID, "sha256sum: missing"),
    ("9", ("ln", "-s", "--", "file", "missing/x"), InvalidPath, INVALID, "failed to create symbolic link"),
    ("9", ("dd", "status=none", "of=missing/x"), InvalidPath, INVALID, "dd: failed to open"),
    ("9", ("file", "-E", "-b", "--", "missing"), InvalidPath, INVALID, "ERROR: cannot stat `missing'"),
    ("9", unpacking("missing", "folder", kind="tar"), InvalidPath, INVALID, "tar: ./missing: Cannot open"),
    ("9", unpacking("missing", "folder", kind="gz"), InvalidPath, INVALID, "tar (child): ./missing: Cannot open"),
    ("9", unpacking("good.tgz", "missing", kind="tgz"), InvalidPath, INVALID, "tar: missing: Cannot open"),
    ("9", packing("missing", "out", dereference=False), InvalidPath, INVALID, "tar: missing: Cannot stat"),
    ("9", packing("file", "missing/x", dereference=False), InvalidPath, INVALID, "tar (child): ./missing/x: Cannot open"),
    ("10", ("ls", "--", "closed"), PermissionDenied, DENIED, "ls: cannot open directory"),
    ("10", ("head", "--", "unreadable"), PermissionDenied, DENIED, "head: cannot open"),
    ("10", ("cp", "--", "unreadable", "x"), PermissionDenied, DENIED, "cp: cannot open"),
    ("10", unpacking("unreadable", "folder", kind="zip"), PermissionDenied, DENIED, "cannot open zipfile [ ./unreadable ]"),
    ("11", ("stat", "--", "closed/x"), PermissionDenied, DENIED, "Permission denied"),
    ("11", ("sha256sum", "--", "unreadable"), PermissionDenied, DENIED, "sha256sum: unreadable"),
    ("11", ("rm", "-r", "--", "/etc/passwd"), PermissionDenied, DENIED, "rm: cannot remove"),
    ("11", ("mkdir", "--", "closed/x"), PermissionDenied, DENIED, "cannot create directory"),
    ("11", ("file", "-E", "-b", "--", "closed/x"), PermissionDenied, DENIED, "(Permission denied)"),
    ("11", unpacking("good.tgz", "closed", kind="tgz"), PermissionDenied, DENIED, "tar: closed: Cannot open"),
    ("11", unpacking("good.tgz", "read-only", kind="tgz"), PermissionDenied, DENIED, "Cannot mkdir: Permission denied"),
    ("11", unpacking("good.zip", "read-only", kind="zip"), PermissionDenied, DENIED, "checkdir error:  cannot create"),
    ("12", ("mkdir", "--", "folder"), Exists, EXISTS, "mkdir: cannot create directory"),
    ("12", ("mkdir", "-p", "--", "file"), Exists, EXISTS, "File exists"),
    ("12", ("ln", "-s", "--", "x", "file"), Exists, EXISTS, "failed to create symbolic link"),
    ("12", unpacking("good.zip", "file", kind="zip"), Exists, EXISTS, "File exists"),
    ("13", ("mkdir", "--", "file/x"), NotADirectory, NO_FOLDER, "Not a directory"),
    ("13", ("stat", "--", "file/x"), NotADirectory, NO_FOLDER, "Not a directory"),
    ("13", ("dd", "status=none", "of=file/x"), NotADirectory, NO_FOLDER, "Not a directory"),
    ("13", unpacking("good.tgz", "file", kind="tgz"), NotADirectory, NO_FOLDER, "Not a directory"),
    ("14", ("sha256sum", "--", "folder"), ADirectory, A_FOLDER, "Is a directory"),
    ("14", ("head", "--", "folder"), ADirectory, A_FOLDER, "error reading"),
    ("14", ("dd", "status=none", "of=folder"), ADirectory, A_FOLDER, "Is a directory"),
    ("14", ("mv", "--force", "--", "folder", "file"), ADirectory, A_FOLDER, "cannot overwrite non-directory"),
    ("14", ("cp", "--force", "-dR", "--", "folder", "folder/x"), ADirectory, A_FOLDER, "cannot copy a directory"),
    ("14", ("mv", "--force", "--", "folder", "folder/x"), ADirectory, A_FOLDER, "to a subdirectory of itself"),
    ("14", ("rm", "-r", "--", "."), ADirectory, A_FOLDER, "refusing to remove"),
    ("14", unpacking("folder", "folder", kind="tar"), ADirectory, A_FOLDER, "Cannot read: Is a directory"),
    ("15", ("cp", "--", "folder/twin", "good/twin", "empty"), Exists, EXISTS, "will not overwrite just-created"),
    ("16", ("chmod", "-v", "--", "600", "/etc/passwd"), PermissionDenied, DENIED, "Operation not permitted"),
    ("16", ("chown", "-v", "--", "root:", "file"), PermissionDenied, DENIED, "Operation not permitted"),
    ("17", ("chown", "-v", "--", ":none such", "file"), InvalidGroup, {"X-Invalid-Group": "group is an invalid group"}, "invalid group"),
    ("18", ("chown", "-v", "--", "nosuch:", "file"), InvalidOwner, {"X-Invalid-Owner": "owner is an invalid user"}, "invalid spec"),
    ("18", ("chown", "-v", "--", "nosuch:x", "file"), InvalidOwner, {"X-Invalid-Owner": "owner is an invalid user"}, "invalid user"),
    ("19", ("chmod", "-v", "--", "none such", "file"), InvalidMode, {"X-Invalid-Mode": "mode is an invalid mode"}, "invalid mode"),
    ("22", ("mv", "--force", "--", "file", "file"), CommandFailed, None, "are the same file"),
    ("22", ("stat", "--", "x" * 300), CommandFailed, None, "File name too long"),
    ("22", ("dd", "status=none", "if=file", "of=/dev/full"), CommandFailed, None, "No space left on device"),
    ("22", unpacking("file", "folder", kind="gz"), CommandFailed, None, "gzip: stdin: not in gzip format"),
    ("22", unpacking("file", "folder", kind="bz2"), CommandFailed, None, "bzip2: (stdin) is not a bzip2 file."),
    ("22", unpacking("file", "folder", kind="xz"), CommandFailed, None, "xz: (stdin): File format not recognized"),
    ("22", unpacking("file", "folder", kind="zip"), CommandFailed, None, "End-of-central-directory signature not found"),
    ("22", unpacking("missing", "folder", kind="zip"), CommandFailed, None, "cannot find or open ./missing"),
    ("22", ("timeout", "5", "no-such-program"), CommandFailed, None, "No such file or directory"),
    ("22", ("sh", "-c", "exit 7"), CommandFailed, {"X-Error": "Command has failed with exit status 7"}, "exit status 7"),
]  # fmt: skip


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """A folder of a user who is not root, with things in it that fail."""
    if missing := [tool for tool in ("unzip", "zip", "bzip2", "xz", "file", "setpriv") if not shutil.which(tool)]:
        not_here(f"{missing} are missing")
    place = Path(tempfile.mkdtemp())
    for name in ("folder", "empty", "good", "closed", "read-only"):
        (place / name).mkdir()
    for name in ("file", "unreadable", "folder/twin", "good/twin", "closed/x"):
        (place / name).write_text("some text that is no archive\n" * 50)
    subprocess.run(("tar", "-czf", "good.tgz", "good"), cwd=place, check=True)
    subprocess.run(("zip", "-qr", "good.zip", "good"), cwd=place, check=True)
    for name, mode in (("closed", 0), ("unreadable", 0), ("read-only", 0o555)):
        (place / name).chmod(mode)
    if os.geteuid() == 0:
        subprocess.run(("chown", "-R", "nobody:", place), check=True)
    yield place
    subprocess.run(("chmod", "-R", "u+rwx", place), check=True)
    shutil.rmtree(place)


@pytest.fixture(params=["C", "C.UTF-8"])
def run(request: pytest.FixtureRequest, ground: Path) -> Run:
    """Runs a command there, as somebody who is not root."""
    nobody = pwd.getpwnam("nobody")
    changed = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--") if os.geteuid() == 0 else ()
    environment = {"LC_ALL": request.param, "PATH": "/usr/bin:/bin"}

    def finished(*words: str) -> Finished:
        done = subprocess.run(
            (*changed, *words), cwd=ground, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return finished


def told(finished: Finished) -> FirecrestError:
    """The failure that the client is told about."""
    with pytest.raises(FirecrestError) as raised:
        Command(("true",), bytes).read(finished)
    return raised.value


@pytest.mark.parametrize(
    ("number", "words", "kind_", "headers", "text"), CASES, ids=[f"{case[0]}-{' '.join(case[1])[:40]}" for case in CASES]
)
def test_what_a_command_says_has_its_kind_and_its_header(
    run: Run, number: str, words: tuple[str, ...], kind_: type[FirecrestError], headers: dict[str, str] | None, text: str
) -> None:
    finished = run(*words)
    error = told(finished)
    assert (type(error), error.status) == (kind_, 400), error.text
    assert text in error.text
    said = finished.stderr.decode().strip()
    assert not said or error.text == said, "the lines stay as they are"
    assert error.headers() == (headers or {"X-Error": said.splitlines()[0].translate(dict.fromkeys((0x2018, 0x2019), "?"))})
    if int(number) in range(FIRST, FIRST + len(RULES)):
        fitting = next(rule for line in _complaints(error.text) for rule in RULES if rule.fits(line))
        assert fitting is RULES[int(number) - FIRST]
    assert error.body("description") == {"description": "description", "error": error.text}


def test_every_rule_has_a_command() -> None:
    assert {case[0] for case in CASES} == {"1", "2", "3", "22"} | {str(number) for number, _ in enumerate(RULES, FIRST)}


def test_a_file_that_may_not_be_read_has_no_type_and_no_pattern_is_not_found(run: Run) -> None:
    with pytest.raises(PermissionDenied, match="no read permission") as denied:
        Command(("file",), kind).read(run("file", "-E", "-b", "--", "unreadable"))
    assert denied.value.headers() == DENIED
    with pytest.raises(PatternNotFound) as absent:
        Command(("head",), lambda out: lines_with("absent", out.decode())).read(run("head", "--", "file"))
    assert (absent.value.status, absent.value.headers()) == (404, {"X-Not-Found": "pattern not found"})


NAMES = (
    *("No such file or directory", "Permission denied", "cannot open", "overwrite", "directory", "Is a directory", "invalid user"),
    *("x: Permission denied", "x: No such file or directory", "x: Cannot open: File exists", "cannot stat: Not a directory"),
    *("it's: Permission denied", 'the "invalid mode": \'y\'', "a' cannot open 'b", "two\nlines: Permission denied", "back\\: slash'"),
    *("‘é’: File exists", "’: Permission denied", "`x' (Permission denied", "-rf", "$(id): Permission denied"),  # noqa: RUF001 (the quotes of C.UTF-8)
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_a_message_quotes_decides_nothing(run: Run, ground: Path, name: str) -> None:
    there, closed, absent = (ground / f"{name}.{kind_}" for kind_ in ("there", "closed", "absent"))
    there.mkdir(exist_ok=True)
    closed.touch(mode=0)
    os.chown(closed, ground.stat().st_uid, -1)
    there, closed, absent = there.name, closed.name, absent.name
    for kind_, words in (
        (InvalidPath, ("ls", "--", absent)),
        (NotFound, ("stat", "--", absent)),
        (NotFound, ("mv", "--", absent, there)),
        (InvalidPath, ("sha256sum", "--", absent)),
        (InvalidPath, ("head", "--", absent)),
        (InvalidPath, ("rm", "-r", "--", absent)),
        (InvalidPath, ("mkdir", "--", f"{absent}/x")),
        (InvalidPath, ("file", "-E", "-b", "--", absent)),
        (InvalidPath, unpacking(absent, "folder", kind="tar")),
        (InvalidPath, unpacking("good.tgz", absent, kind="tgz")),
        (ADirectory, ("sha256sum", "--", there)),
        (ADirectory, ("head", "--", there)),
        (ADirectory, unpacking(there, "folder", kind="tar")),
        (Exists, ("mkdir", "--", there)),
        (PermissionDenied, ("head", "--", closed)),
        (PermissionDenied, ("sha256sum", "--", closed)),
        (PermissionDenied, unpacking(closed, "folder", kind="tar")),
        (NotADirectory, ("stat", "--", f"{closed}/{absent}")),
        (CommandFailed, ("mv", "--", closed, closed)),
        (InvalidOwner, ("chown", "-v", "--", f"{name}:x", "file")),
        (InvalidGroup, ("chown", "-v", "--", f":{name}", "file")),
        (InvalidMode, ("chmod", "-v", "--", name, "file")),
    ):
        assert type(told(run(*words))) is kind_, words
    (ground / closed).unlink()


def test_other_lines_before_those_of_the_tool_decide_nothing(run: Run) -> None:
    for noise in (
        "Could not chdir to home directory /home/x: No such file or directory",
        "bash: /home/x/.cargo/env: Permission denied",
        "bash: warning: setlocale: LC_ALL: cannot change locale (C.UTF-8): No such file or directory",
        "sh: warning: setlocale: LC_ALL: cannot change locale (C.UTF-8): No such file or directory",
    ):
        error = told(run("sh", "-c", 'echo "$0" >&2; exec mkdir folder', noise))
        assert (type(error), error.headers()) == (Exists, EXISTS)
        assert error.text.startswith(noise)


def test_the_exit_status_decides_whether_a_command_failed(run: Run) -> None:
    finished = run("sh", "-c", "echo ls: cannot access x: No such file or directory >&2; echo cannot open")
    assert Command(("ls",), bytes).read(finished) == b"cannot open\n"
