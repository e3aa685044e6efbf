"""How a command is put to a shell, and how its two outputs are told from whatever else the shell's streams carry."""

import base64
import re
import secrets
import shlex
from typing import Final

from workers.host import Finished
from workers.streams import Sink

MAX_OUTPUT: Final = 64 * 1024 * 1024

_STATUS = re.compile(rb" (\d{1,3})\n")
_NOTHING = re.compile(rb"\n")
_LONGEST_END = 5


class UnframedError(Exception):
    """The streams do not hold exactly one command's framed output."""


class OversizedError(Exception):
    """A command printed more than is taken."""


def new_token() -> str:
    """A mark that nobody can guess; its first character occurs once, so that no output can overlap it."""
    return f"_{secrets.token_hex(16)}"


def script(line: str, token: str, *, apart: bool = True) -> bytes:
    """What a shell is fed to run the line and frame its output; of a text cut short it runs nothing.

    The brace that opens first closes last: the shell runs nothing before it has read it. The line runs in a subshell, so
    that `cd`, `exit` or an assignment does not outlive it; a line that is one program with its words needs none (not `apart`).
    """
    line = f"( {line} )" if apart else line
    return f"{{ {line} </dev/null; echo {token} $?; echo {token} >&2; }}\n".encode(errors="surrogateescape")


def script_with_input(line: str, token: str, stdin: bytes) -> bytes:
    """The same for a line that reads `stdin`, which travels inside: cut short, it runs nothing either.

    It travels as it is, but for what holds NUL, which no shell can. The status is the line's own. Had the writing failed, a bare
    token would stand where none may; 141 is a line that did not read all. The descriptor 3 is the shell's stdout, past the pipe.
    """
    if b"\0" in stdin:
        written = f"printf %s {base64.b64encode(stdin).decode()} | base64 -d"
    else:
        written = f"printf %s {shlex.quote(stdin.decode(errors='surrogateescape'))}"
    writing = f"{written}; case $? in 0|141) ;; *) echo {token} >&3;; esac"
    text = f"{{ {{ {{ {writing}; }} | ( {line} ) 3>&-; }} 3>&1; echo {token} $?; echo {token} >&2; }}\n"
    return text.encode(errors="surrogateescape")


def noisy_script(line: str, token: str) -> bytes:
    """The same with a mark before the output too, for where something else may print first; its input is the shell's."""
    return f"{{ echo {token}; echo {token} >&2; ( {line} ); echo {token} $?; echo {token} >&2; }}\n".encode(errors="surrogateescape")


class _Stream:
    """One output stream of a framed command, read as it arrives."""

    def __init__(self, token: bytes, ending: re.Pattern[bytes], *, noisy: bool, sink: Sink | None = None) -> None:
        self._token = token
        self._sink = sink
        self._ending = ending
        self._noisy = noisy
        self._seen = bytearray()
        self._end = -1
        self.code: int | None = None
        self.whole = False

    def feed(self, data: bytes) -> None:
        if self._noisy:
            data = self._begin(data)
        if self._noisy:
            return
        start = max(0, len(self._seen) - len(self._token))
        self._seen += data
        if self._end < 0:
            self._end = self._seen.find(self._token, start)
        if self._sink:
            self._hand_over(self._sink)
        if self._end >= 0 and data:
            self._finish(bytes(self._seen[self._end + len(self._token) :]))

    def _begin(self, data: bytes) -> bytes:
        self._seen += data
        mark = self._token + b"\n"
        _, found, rest = self._seen.partition(mark)
        self._noisy = not found
        self._seen = bytearray() if found else self._seen[-len(mark) :]
        return bytes(rest) if found else b""

    def _hand_over(self, sink: Sink) -> None:
        # all that there is, save what may be the beginning of the token
        ready = self._end if self._end >= 0 else len(self._seen) - len(self._token) + 1
        if ready > 0:
            sink.take(bytes(self._seen[:ready]))
            del self._seen[:ready]
            self._end = min(self._end, 0)

    def _finish(self, tail: bytes) -> None:
        ended = self._ending.fullmatch(tail)
        if ended:
            self.code = int(ended[1]) if ended.re.groups else None
            self.whole = True
        elif self.whole or b"\n" in tail or len(tail) >= _LONGEST_END:
            raise UnframedError(tail[:80])

    def output(self) -> bytes:
        return bytes(self._seen[: self._end])

    def __len__(self) -> int:
        return len(self._seen)


class Frame:
    """The output of one command, read from chunks of both streams in whatever pieces and order they come.

    `noisy` says that a mark stands before the output, and that anything may stand before that mark. A sink
    takes the output as it comes, and then the finished command holds none.
    """

    def __init__(self, token: str, *, noisy: bool = False, most: int = MAX_OUTPUT, sink: Sink | None = None) -> None:
        self._stdout = _Stream(token.encode(), _STATUS, noisy=noisy, sink=sink)
        self._stderr = _Stream(token.encode(), _NOTHING, noisy=noisy)
        self._most = most
        self.handing_on = sink is not None

    def feed(self, stdout: bytes = b"", stderr: bytes = b"") -> Finished | None:
        """The finished command once both streams have ended, None before.

        Raises UnframedError when something stands where nothing should, OversizedError when the output is too big.
        """
        if stdout:
            self._stdout.feed(stdout)
        if stderr:
            self._stderr.feed(stderr)
        if len(self._stdout) + len(self._stderr) > self._most:
            raise OversizedError(self._most)
        if self._stdout.code is None or not (self._stdout.whole and self._stderr.whole):
            return None
        return Finished(self._stdout.code, self._stdout.output(), self._stderr.output())
