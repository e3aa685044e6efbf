#!/usr/bin/python3 -IS
"""Runs the one command that the SSH certificate names which sshd has just authenticated, if it is on the list of the system.

sshd starts this program, by the certificate's `force-command` or by its own `ForceCommand`, with `ExposeAuthInfo yes`. What the
other side sends besides the certificate (a command line, an environment, the wish for a subsystem) decides nothing. The list
`firecrest-commands.json` lies beside this file; `python -m workers.forced_commands` makes it. No shell, no module but Python's own
(3.9 or later). What is refused ends with exit status 118 and a line in syslog (authpriv).
"""

import base64
import hashlib
import json
import os
import pwd
import re
import select
import signal
import stat
import struct
import sys
import syslog
import time
from typing import Any, NamedTuple, NoReturn, Optional

REFUSED = 118
NOT_FOUND = 127
CARRIER = "firecrest"  # the only command line that is taken, and it means nothing
LIST = "firecrest-commands.json"
MOST_SECONDS = 86400

_KIND = b"ssh-ed25519-cert-v01@openssh.com"
_USER = 1
_OPTIONS = {b"force-command", b"source-address"}
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_MARK = re.compile(r"_[0-9a-f]{32}")
_LOCALE = "C.UTF-8"


class Refusal(Exception):
    """Why nothing is run."""


class Certificate(NamedTuple):
    """What there is to know of an OpenSSH certificate (PROTOCOL.certkeys); its signature is sshd's business."""

    serial: int
    kind: int
    key_id: str
    principals: tuple[str, ...]
    after: int
    before: int
    options: dict[bytes, bytes]
    extensions: bytes
    authority: str


class Wanted(NamedTuple):
    """The command that a certificate names."""

    argv: list[str]
    seconds: str
    mark: str


class _Reader:
    """Reads what SSH packs."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        return int(struct.unpack(form, self._take(size))[0])

    def text(self) -> bytes:
        return self._take(self.number(">I"))

    def texts(self) -> list[bytes]:
        found = []
        while self._data:
            found.append(self.text())
        return found

    def _take(self, size: int) -> bytes:
        if len(self._data) < size:
            raise Refusal("the certificate is cut short")
        taken, self._data = self._data[:size], self._data[size:]
        return taken


def read_certificate(blob: bytes) -> Certificate:
    """The certificate in a blob. Raises Refusal for what is not one of an ed25519 key."""
    reader = _Reader(blob)
    if reader.text() != _KIND:
        raise Refusal("what was authenticated is no ed25519 certificate")
    reader.text(), reader.text()  # nonce and public key
    serial, kind = reader.number(">Q"), reader.number(">I")
    key_id = reader.text().decode(errors="replace")
    principals = tuple(name.decode(errors="replace") for name in _Reader(reader.text()).texts())
    after, before = reader.number(">Q"), reader.number(">Q")
    options = _Reader(reader.text()).texts()
    extensions = reader.text()
    reader.text()  # reserved
    digest = base64.b64encode(hashlib.sha256(reader.text()).digest()).decode().rstrip("=")
    named = dict(zip(options[::2], (_Reader(value).text() for value in options[1::2])))  # noqa: B905
    return Certificate(serial, kind, key_id, principals, after, before, named, extensions, f"SHA256:{digest}")


def check(certificate: Certificate, *, user: str, now: float, authorities: list[str]) -> None:
    """Raises Refusal unless it is a user certificate of one of the authorities, for this user alone, valid now and without rights."""
    if certificate.kind != _USER:
        raise Refusal("it is no user certificate")
    if certificate.authority not in authorities:
        raise Refusal(f"it is signed by {certificate.authority}, which is no authority here")
    if not certificate.after <= now < certificate.before:
        raise Refusal("it is not valid now")
    if certificate.principals != (user,):
        raise Refusal(f"it is not for {user} alone")
    if certificate.extensions or not set(certificate.options) <= _OPTIONS:
        raise Refusal("it gives more than a command")


def authenticated(path: str) -> Certificate:
    """The certificate that sshd has written down as the one way in which the user was authenticated. Raises Refusal."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        raise Refusal("sshd does not tell how the user was authenticated (ExposeAuthInfo)") from None
    with open(file, encoding="ascii") as opened:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
            raise Refusal("what tells how the user was authenticated is not sshd's")
        words = opened.read().split()
    if len(words) != 3 or words[0] != "publickey":
        raise Refusal("the user was not authenticated by a certificate alone")
    return read_certificate(base64.b64decode(words[2], validate=True))


def token(certificate: Certificate, arguments: list[str]) -> str:
    """The last word of the certificate's force-command, which is what this program was started with, if with anything."""
    forced = certificate.options.get(b"force-command", b"").decode(errors="replace").split(" ")
    if len(forced) != 2 or not _TOKEN.fullmatch(forced[1]):
        raise Refusal("the certificate names no command")
    if arguments not in ([], forced[1:]):
        raise Refusal("this program was not started for the command of the certificate")
    return forced[1]


def read_command(text: str, programs: dict[str, str]) -> Wanted:
    """The command that a token spells, the programs put in that it names by their digests. Raises Refusal."""
    try:
        spelled = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        words = [word if isinstance(word, str) else programs[word["sha256"]] for word in spelled["argv"]]
        seconds, mark = spelled["seconds"], spelled["mark"]
    except (ValueError, KeyError, TypeError):
        raise Refusal("the command of the certificate cannot be read") from None
    limit = "" if seconds is None else f"{seconds:g}" if isinstance(seconds, (int, float)) and 0 < seconds <= MOST_SECONDS else "?"
    if set(spelled) != {"argv", "seconds", "mark"} or not words or not _MARK.fullmatch(mark) or limit == "?":
        raise Refusal("the command of the certificate cannot be read")
    return Wanted(words, limit, mark)


def allowed(argv: list[str], rules: dict[str, list[Any]]) -> bool:
    """Whether a command line is one of the list's.

    A rule is a row of slots: a word itself; {"word": PATTERN} for one word and {"words": PATTERN} for as many as fit it;
    {"program": DIGEST} for the word with this SHA-256; {"command": NAMES} for the rest, which must fit one of these rules.
    """
    return any(_fits(argv, slots, rules) for name, slots in rules.items() if not name.startswith("_"))


def _fits(words: list[str], slots: list[Any], rules: dict[str, list[Any]]) -> bool:
    for at, slot in enumerate(slots):
        kind, what = ("is", slot) if isinstance(slot, str) else next(iter(slot.items()))
        if kind == "command":
            return any(_fits(words, rules[name], rules) for name in what)
        if kind == "words":
            most = next((count for count, word in enumerate(words) if not re.fullmatch(what, word, re.DOTALL | re.ASCII)), len(words))
            return any(_fits(words[count:], slots[at + 1 :], rules) for count in range(most, -1, -1))
        if not words or not _is(kind, what, words[0]):
            return False
        words = words[1:]
    return not words


def _is(kind: str, what: str, word: str) -> bool:
    if kind == "word":
        return re.fullmatch(what, word, re.DOTALL | re.ASCII) is not None
    if kind == "program":
        return hashlib.sha256(_bytes(word)).hexdigest() == what
    return kind == "is" and word == what


def _bytes(word: str) -> bytes:
    return word.encode("utf-8", "surrogateescape")


def check_asked(wanted: Wanted, line: Optional[str], rules: dict[str, list[Any]]) -> None:  # noqa: UP045 (as 3.9 has it)
    """Raises Refusal when a command is not on the list, or the other side has asked for another one by its command line or subsystem."""
    if line != CARRIER:
        raise Refusal("something else than the command of the certificate was asked for")
    if not allowed(wanted.argv, rules):
        raise Refusal(f"{wanted.argv[0]!r} in this form is not on the list")


def read_list(path: str) -> dict[str, Any]:
    """The list of the system. Raises Refusal when others than root could have written it."""
    with open(path, encoding="utf-8") as file:
        facts = os.fstat(file.fileno())
        if facts.st_uid or facts.st_mode & 0o022:
            raise Refusal(f"{path} is not root's alone")
        found: dict[str, Any] = json.load(file)
    return found


def admit(arguments: list[str], environment: dict[str, str]) -> tuple[Wanted, dict[str, str]]:
    """What is to be run, and in which environment. Raises Refusal."""
    person = pwd.getpwuid(os.getuid())
    known = read_list(os.path.join(os.path.dirname(os.path.realpath(__file__)), LIST))
    certificate = authenticated(environment.get("SSH_USER_AUTH", ""))
    try:
        check(certificate, user=person.pw_name, now=time.time(), authorities=known["authorities"])
        wanted = read_command(token(certificate, arguments), known["programs"])
        check_asked(wanted, environment.get("SSH_ORIGINAL_COMMAND"), known["commands"])
    except Refusal as refusal:
        raise Refusal(f"{refusal} (serial {certificate.serial}, {certificate.key_id!r})") from None
    syslog.syslog(syslog.LOG_INFO, f"runs {wanted.argv[0]!r} (serial {certificate.serial}, {certificate.key_id!r})")
    own = {"HOME": person.pw_dir, "USER": person.pw_name, "LOGNAME": person.pw_name, "SHELL": person.pw_shell, "LC_ALL": _LOCALE}
    return wanted, {**known["environment"], **own}


def perform(wanted: Wanted, environment: dict[str, str]) -> NoReturn:
    """Run the command between two marks on both outputs, the last of which tells its status; end it when nobody listens any more."""
    os.write(1, f"{wanted.mark}\n".encode())
    os.write(2, f"{wanted.mark}\n".encode())
    argv = ["timeout", wanted.seconds, *wanted.argv] if wanted.seconds else wanted.argv
    ended, tells = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(tells)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if not child:
        _become(argv, environment)
    status = _awaited(child, ended)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    os.write(1, f"{wanted.mark} {code}\n".encode())
    os.write(2, f"{wanted.mark}\n".encode())
    os._exit(code)


def _become(argv: list[str], environment: dict[str, str]) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):  # Python ignores the first two
        signal.signal(number, signal.SIG_DFL)
    folders = environment["PATH"].split(":")
    places = [argv[0]] if argv[0].startswith("/") else [os.path.join(folder, argv[0]) for folder in folders if "/" not in argv[0]]
    for place in places:
        try:
            os.execve(place, [_bytes(word) for word in argv], environment)  # noqa: S606 (that is the point)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as failed:
            os.write(2, f"{argv[0]}: {failed}\n".encode(errors="replace"))
            os._exit(NOT_FOUND - 1)
    os.write(2, f"{argv[0]}: not found\n".encode(errors="replace"))
    os._exit(NOT_FOUND)


def _awaited(child: int, ended: int) -> int:
    """The status of the child; when sshd has closed our output before, the whole session is ended, this program with it."""
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(1, 0)
    while True:
        ready = dict(poll.poll())
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        if 1 in ready:
            os.execve("/usr/bin/pkill", ["pkill", "-TERM", "-s", str(os.getsid(0))], {})  # noqa: S606
        os.read(ended, 512)


def main() -> NoReturn:
    """Do what the certificate says, or refuse it."""
    syslog.openlog("firecrest-command", syslog.LOG_PID, syslog.LOG_AUTHPRIV)
    try:
        wanted, environment = admit(sys.argv[1:], dict(os.environ))
    except Exception as failed:  # noqa: BLE001 (whatever it is, nothing is run)
        reason = str(failed) if isinstance(failed, Refusal) else f"{type(failed).__name__}: {failed}"
        syslog.syslog(syslog.LOG_WARNING, f"refused for user {os.getuid()}: {reason}")
        os.write(2, f"firecrest-command: refused: {reason}\n".encode(errors="replace"))
        os._exit(REFUSED)
    perform(wanted, environment)


if __name__ == "__main__":
    main()
