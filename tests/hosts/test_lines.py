"""How a command is put to a shell that waits for commands: with no process that it can do without, and with the same meaning."""

import shlex
import subprocess

import pytest

from workers.host import Command, Host


def raw(*argv: str, seconds: float | None = None, stdin: bytes = b"") -> Command[bytes]:
    """A command whose output is taken as it is."""
    return Command(argv, bytes, seconds=seconds, stdin=stdin)


def test_what_can_block_has_its_limit_on_the_system_and_what_ends_by_itself_has_not() -> None:
    characters = "LC_ALL= LANG=C LC_CTYPE=C.UTF-8 LC_COLLATE=C LC_MESSAGES=C LC_NUMERIC=C LC_TIME=C"
    assert raw("ls", "a b", seconds=5).line_within() == f"{characters} ls 'a b'"
    for words in (("head", "--", "fifo"), ("sh", "-c", "cat", "sh"), ("tar", "-x"), ("cp", "a", "b"), ("sha256sum", "a")):
        assert raw(*words, seconds=5).line_within() == raw(*words, seconds=5).line() == f"LC_ALL=C.UTF-8 timeout 5 {shlex.join(words)}"


HOSTILE = ("", "-n", "a b", "'", '"', "$(id)", "`id`", "\\", "two\nlines", "*", "é", "!", "~")
PROGRAM = """
printf '%s\\0' "$#" "$@" "$LC_ALL"
set -f; IFS=; exec 3>&1; cd /; umask 0
sh -c 'printf %s "$LC_ALL"'
"""


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_constant_program_means_the_same_in_a_shell_as_by_itself(shell: str) -> None:
    command = raw("sh", "-c", PROGRAM, "sh", *HOSTILE)
    assert command.line_within() != command.line()
    lines = (command.line(), f"({command.line_within()})")
    one, other = (subprocess.run((shell, "-c", line), capture_output=True, check=True).stdout for line in lines)
    assert one == other
    assert one.split(b"\0")[0] == b"%d" % len(HOSTILE)


def test_a_constant_program_leaves_nothing_behind_in_the_shell(shell: Host) -> None:
    state = raw("sh", "-c", 'pwd; umask; echo "$-" "$IFS" "$found" "$#"; trap')
    before = shell.run(state)
    for text in (PROGRAM, "found=1; set -- a b; trap : TERM HUP", "exit 0", "set -e; true", "exec true"):
        shell.run(raw("sh", "-c", text, "sh", "words"))
    assert shell.run(state) == before


@pytest.mark.parametrize("stdin", [b"", b"a\0b\n"])
def test_a_constant_program_reads_what_it_is_given_and_its_status_counts(shell: Host, stdin: bytes) -> None:
    assert shell.run(raw("sh", "-c", "cat", "sh", stdin=stdin)) == stdin
    seen: list[int] = []

    def fails(code: int, message: str) -> Exception:
        seen.append(code)
        return ValueError(message)

    with pytest.raises(ValueError, match="why"):
        shell.run(Command(("sh", "-c", "cat; echo why >&2; exit 9", "sh"), bytes, stdin=stdin, fails=fails))  # type: ignore[arg-type]
    assert seen == [9]
