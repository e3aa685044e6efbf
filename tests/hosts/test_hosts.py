"""What every host does the same, whichever way it is entered."""

import hashlib
import shlex
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import CommandFailed, FirecrestError, InvalidParameter, InvalidPath, PermissionDenied, TimedOut
from workers.host import Command, Host
from workers.shells import SMALL_INPUT

words = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=50),
    st.sampled_from(
        [
            "",
            "-",
            "--",
            "-rf",
            "'",
            '"',
            "\\",
            "$(id)",
            "`id`",
            "$HOME",
            "two\nlines",
            "\r\n",
            "#",
            "*",
            "~",
            "{",
            "}",
            "é",
            "☃",
            "\x1f",
            "\udcff",
        ]
    ),
)
many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def raw(*argv: str, stdin: bytes = b"", seconds: float | None = None) -> Command[bytes]:
    """A command whose output is taken as it is."""
    return Command(argv, bytes, stdin=stdin, seconds=seconds)


def test_the_output_of_a_command_is_read_by_its_parser(host: Host) -> None:
    assert host.run(Command(("echo", "12"), int)) == 12


def test_an_output_comes_without_anything_added_or_removed(host: Host) -> None:
    assert host.run(raw("printf", "no newline")) == b"no newline"
    assert host.run(raw("printf", r"\n\n\0\377 \n")) == b"\n\n\0\xff \n"
    assert host.run(raw("true")) == b""


@many
@given(argv=st.lists(words, max_size=5))
def test_words_arrive_as_they_were_written(host: Host, argv: list[str]) -> None:
    expected = b"".join(word.encode(errors="surrogateescape") + b"\0" for word in argv)
    assert host.run(raw("printf", "%s\\0", "-first", *argv)) == b"-first\0" + expected


@many
@given(stdin=st.binary(min_size=1, max_size=300))
def test_any_bytes_can_be_given_to_a_command(host: Host, stdin: bytes) -> None:
    assert host.run(raw("cat", stdin=stdin)) == stdin


def test_megabytes_can_be_given_to_a_command_that_answers_as_it_reads(host: Host) -> None:
    stdin = bytes(range(256)) * 20_000
    assert host.run(raw("cat", stdin=stdin)) == stdin
    assert host.run(raw("sha256sum", stdin=stdin)).split()[0].decode() == hashlib.sha256(stdin).hexdigest()


@pytest.mark.parametrize("size", [1, 4096, SMALL_INPUT - 1, SMALL_INPUT, SMALL_INPUT + 1, 100_000])
def test_input_of_any_size_arrives_whole(host: Host, size: int) -> None:
    stdin = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert host.run(raw("cat", stdin=stdin)) == stdin


def test_a_command_may_leave_its_input_unread(host: Host) -> None:
    assert host.run(raw("echo", "done", stdin=b"echo not me\n" * 1000)) == b"done\n"
    assert host.run(raw("echo", "done", stdin=b"echo not me\n" * 500_000)) == b"done\n"


@pytest.mark.parametrize("size", [1, 100_000])
def test_input_does_not_change_what_a_status_means(host: Host, size: int) -> None:
    with pytest.raises(CommandFailed, match="bad"):
        host.run(raw("sh", "-c", "cat >/dev/null; echo bad >&2; exit 3", stdin=b"x" * size))


def test_without_input_a_command_reads_an_end(host: Host) -> None:
    assert host.run(raw("cat")) == b""


@pytest.mark.parametrize("code", [1, 2, 77, 118, 124, 126, 127, 128, 254, 255])
def test_a_status_becomes_the_commands_own_kind_of_error(host: Host, code: int) -> None:
    seen: list[tuple[int, str]] = []

    def fails(status: int, message: str) -> FirecrestError:
        seen.append((status, message))
        return PermissionDenied("mine")

    with pytest.raises(PermissionDenied, match="mine"):
        host.run(Command(("sh", "-c", f"echo out; echo ' why ' >&2; exit {code}"), bytes, fails=fails))
    assert seen == [(code, "why")]


def test_messages_are_in_the_c_locale_and_understood(host: Host) -> None:
    with pytest.raises(InvalidPath):
        host.run(raw("ls", "/no/such/path"))


def test_an_unknown_command_fails_as_commands_do(host: Host) -> None:
    with pytest.raises(CommandFailed, match="not found"):
        host.run(raw("no-such-command-here"))


def test_a_command_killed_by_a_signal_fails(host: Host) -> None:
    with pytest.raises(FirecrestError):
        host.run(raw("sh", "-c", "kill -9 $$"))


def test_big_outputs_on_both_streams_do_not_block_each_other(host: Host) -> None:
    size = 6_000_000
    script = f"head -c {size} /dev/zero; head -c {size} /dev/zero >&2; head -c {size} /dev/zero; head -c {size} /dev/zero >&2"
    assert host.run(raw("sh", "-c", script)) == bytes(2 * size)


def test_streams_written_at_the_same_time_are_kept_apart(host: Host) -> None:
    script = "yes out | head -c 4000000 & yes err | head -c 4000000 >&2; wait; exit 5"
    seen: list[str] = []

    def fails(_status: int, message: str) -> FirecrestError:
        seen.append(message)
        return CommandFailed("expected")

    with pytest.raises(CommandFailed, match="expected"):
        host.run(Command(("sh", "-c", script), bytes, fails=fails))
    assert set(seen[0].split()) == {"err"}
    assert len(seen[0]) == 4_000_000 - 1


def test_a_command_that_takes_too_long_is_stopped_on_the_system(host: Host) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOut, match="timeout signal"):
        host.run(raw("sleep", "30", seconds=0.2))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("word", ["a\0b", "\0", "\ud800"])
def test_what_no_command_line_can_carry_is_refused(host: Host, word: str) -> None:
    with pytest.raises(InvalidParameter):
        host.run(raw("echo", word))


def test_commands_leave_nothing_behind_for_the_next(shell: Host) -> None:
    before = shell.run(raw("pwd"))
    for line in ("cd /", "exit 0", "umask 0"):
        shell.run(raw("eval", line))
    assert shell.run(raw("pwd")) == before


def test_a_long_command_line_arrives_whole(shell: Host) -> None:
    many_words = [shlex.quote(str(number)) * 3 for number in range(10_000)]
    assert shell.run(raw("printf", "%s ", *many_words)).split() == [word.encode() for word in many_words]
