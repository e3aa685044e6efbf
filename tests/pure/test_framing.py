"""Framing: whatever a command prints comes back as it was, and nothing else does."""

import itertools
import os
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from workers.framing import Frame, OversizedError, UnframedError, new_token, noisy_script, script, script_with_input
from workers.host import Finished
from workers.streams import Kept

TOKEN = "_" + "0123456789abcdef" * 2
FORMER = "_" + "fedcba9876543210" * 2
MARK = TOKEN.encode()

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]

hostile = (
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [
                    b"",
                    b"\n",
                    b"\0",
                    b" 0\n",
                    b"\n" + FORMER.encode() + b" 0\n",
                    MARK[:-1],
                    MARK[:5],
                    MARK[1:],
                    MARK[:-1] + b" 0\n",
                    b"_",
                    b"\xff\xfe",
                ]
            ),
        ),
        max_size=8,
    )
    .map(b"".join)
    .filter(lambda data: MARK not in data)
)  # that one nobody can guess
cuts = st.lists(st.integers(0, 400), max_size=12)
codes = st.integers(0, 255)


def pieces(data: bytes, at: Sequence[int]) -> list[bytes]:
    """The data, cut at these places."""
    edges = [0, *sorted(min(cut, len(data)) for cut in at), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def ends(stdout: bytes, stderr: bytes, code: int) -> tuple[bytes, bytes]:
    """Both streams as a shell ends them."""
    return stdout + MARK + b" %d\n" % code, stderr + MARK + b"\n"


def fed(frame: Frame, chunks: Sequence[tuple[bytes, bytes]]) -> list[Finished | None]:
    """What a frame says after each chunk."""
    return [frame.feed(*chunk) for chunk in chunks]


@given(stdout=hostile, stderr=hostile, code=codes, out_cuts=cuts, err_cuts=cuts, order=st.randoms(use_true_random=False))
def test_any_output_in_any_pieces_comes_back_exactly(stdout, stderr, code, out_cuts, err_cuts, order):  # type: ignore[no-untyped-def]
    out, err = ends(stdout, stderr, code)
    outs = [(piece, b"") for piece in pieces(out, out_cuts)]
    errs = [(b"", piece) for piece in pieces(err, err_cuts)]
    chunks = []
    while outs or errs:
        chunks.append((outs if outs and (not errs or order.random() < 0.5) else errs).pop(0))
    results = [result for result in fed(Frame(TOKEN), chunks) if result]
    assert results[0] == Finished(code, stdout, stderr)


@given(stdout=hostile, code=codes, at=cuts, noisy=st.booleans())
def test_a_sink_is_given_any_output_in_order_and_nothing_of_the_end(stdout: bytes, code: int, at: list[int], *, noisy: bool) -> None:
    out, err = ends(stdout, b"why", code)
    kept = Kept()
    frame = Frame(TOKEN, noisy=noisy, sink=kept)
    mark = MARK + b"\n" if noisy else b""
    assert not any(frame.feed(piece) for piece in pieces(mark + out, at))
    assert frame.feed(b"", mark + err) == Finished(code, b"", b"why")
    assert kept.content() == stdout


def test_a_frame_with_a_sink_holds_less_than_a_mark_and_has_no_limit() -> None:
    frame = Frame(TOKEN, most=1000, sink=Kept())
    for _ in range(1000):
        frame.feed(b"x" * 5000 + MARK[:20])
        assert len(frame._stdout) < len(MARK)
    with pytest.raises(OversizedError):
        frame.feed(b"", b"y" * 1001)


@given(before=hostile, stdout=hostile, stderr=hostile, code=codes, at=cuts)
@example(before=b"", stdout=b"\0", stderr=b"", code=0, at=[len(MARK)])  # cut between mark and newline
def test_what_a_login_prints_first_is_dropped(before: bytes, stdout: bytes, stderr: bytes, code: int, at: list[int]) -> None:
    out, err = ends(stdout, stderr, code)
    frame = Frame(TOKEN, noisy=True)
    result = None
    for piece in pieces(before + MARK + b"\n" + out, at):
        result = frame.feed(piece, b"") or result
    assert result is None
    for piece in pieces(before + MARK + b"\n" + err, at):
        result = frame.feed(b"", piece) or result
    assert result == Finished(code, stdout, stderr)


@given(stdout=hostile, stderr=hostile, extra=st.binary(min_size=1, max_size=20), on_stdout=st.booleans(), at=cuts)
def test_a_byte_after_the_end_is_doubt(stdout: bytes, stderr: bytes, extra: bytes, on_stdout: bool, at: list[int]) -> None:
    out, err = ends(stdout, stderr, 0)
    out, err = (out + extra, err) if on_stdout else (out, err + extra)
    frame = Frame(TOKEN)
    chunks = [(piece, b"") for piece in pieces(out, at)] if on_stdout else [(b"", piece) for piece in pieces(err, at)]
    with pytest.raises(UnframedError):
        fed(frame, chunks)


@given(out=hostile, err=hostile)
def test_without_both_ends_nothing_is_finished(out: bytes, err: bytes) -> None:
    assert Frame(TOKEN).feed(out, err) is None
    assert Frame(TOKEN).feed(ends(out, err, 0)[0], err) is None
    assert Frame(TOKEN).feed(out, ends(out, err, 0)[1]) is None


@pytest.mark.parametrize("tail", [b"\n", b" \n", b" x\n", b"0\n", b" 1234\n", b" 0 \n", b"            "])
def test_an_end_without_a_status_is_doubt(tail: bytes) -> None:
    with pytest.raises(UnframedError):
        Frame(TOKEN).feed(b"output" + MARK + tail)


def test_an_output_beyond_the_limit_is_refused_while_it_arrives() -> None:
    frame = Frame(TOKEN, most=1000)
    assert frame.feed(b"x" * 400, b"y" * 400) is None
    with pytest.raises(OversizedError):
        frame.feed(b"x" * 201)


def test_a_login_that_prints_without_end_takes_no_memory() -> None:
    frame = Frame(TOKEN, noisy=True, most=1000)
    for _ in range(100):
        assert frame.feed(b"noise" * 100, b"noise" * 100) is None


def test_tokens_are_never_the_same() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000


class Piped:
    """A local shell on pipes, as an SSH session has it."""

    def __init__(self, shell: str) -> None:
        self.process = subprocess.Popen([shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self.stdin, self.stdout, self.stderr = self.process.stdin, self.process.stdout, self.process.stderr

    def run(self, line: str) -> Finished:
        """Run one line; EOFError when the shell has ended."""
        token = new_token()
        self.stdin.write(script(line, token))
        return self.read(Frame(token))

    def give(self, line: str, stdin: bytes) -> Finished:
        """Run one line that reads this."""
        token = new_token()
        self.stdin.write(script_with_input(line, token, stdin))
        return self.read(Frame(token))

    def read(self, frame: Frame) -> Finished:
        """Feed a frame until it is whole."""
        while True:
            ready, _, _ = select.select([self.stdout, self.stderr], [], [], 20)
            assert ready, "the shell said nothing for long"
            out = os.read(self.stdout.fileno(), 65536) if self.stdout in ready else b""
            err = os.read(self.stderr.fileno(), 65536) if self.stderr in ready else b""
            if not (out or err):
                raise EOFError
            finished = frame.feed(out, err)
            if finished:
                return finished

    def close(self) -> None:
        """End it."""
        self.process.kill()
        for pipe in (self.stdin, self.stdout, self.stderr):
            pipe.close()
        self.process.wait()


@pytest.fixture(scope="module", params=SHELLS)
def piped(request: pytest.FixtureRequest) -> Iterator[Piped]:
    shell = Piped(request.param)
    yield shell
    shell.close()


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=60)
words = st.one_of(
    texts,
    st.sampled_from(
        ["", "-", "--", "'", '"', "\\", "$(id)", "`id`", "$HOME", "a\nb", "!", "#", "*", "~", "}", ")", ";", "&", "<<X", "é", "\t"]
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argv=st.lists(words, max_size=6))
def test_words_reach_the_command_as_they_are(piped: Piped, argv: list[str]) -> None:
    finished = piped.run(shlex.join(["printf", "%s\\0", "first", *argv]))
    assert finished == Finished(0, b"".join(word.encode() + b"\0" for word in ["first", *argv]), b"")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stdout=hostile, stderr=hostile, code=codes)
def test_a_real_shell_gives_any_bytes_and_any_status(piped: Piped, stdout: bytes, stderr: bytes, code: int) -> None:
    out, err = ("".join(f"\\{byte:03o}" for byte in data) for data in (stdout, stderr))
    line = shlex.join(["sh", "-c", f"printf '{out}'; printf '{err}' >&2; exit {code}"])
    assert piped.run(line) == Finished(code, stdout, stderr)


BYTES = bytes(range(256))


@pytest.mark.parametrize(
    "given", [BYTES, BYTES[1:], BYTES[1:] * 100, b"no end of line", b"an end\n\n", b"'", b"-n", b"%s \\n", b"\r\n"], ids=repr
)
def test_what_a_line_reads_reaches_it_as_it_is(piped: Piped, given: bytes) -> None:
    assert piped.give("cat", given) == Finished(0, given, b"")


def test_every_status_comes_back(piped: Piped) -> None:
    assert [piped.run(f"exit {code}").code for code in range(256)] == list(range(256))


def test_a_command_killed_by_a_signal_has_its_status(piped: Piped) -> None:
    assert piped.run(shlex.join(["sh", "-c", "kill -9 $$"])).code == 137


@pytest.mark.parametrize("line", ["cd /", "exit 3", "exec true", "LC_ALL=C export LC_ALL", "set -e", "umask 0", "trap '' TERM", "return 4"])
def test_nothing_outlives_its_command(piped: Piped, line: str) -> None:
    state = 'pwd; echo "$LC_ALL" $-; umask; trap; false; echo still'
    before = piped.run(state)
    piped.run(line)
    assert piped.run(state) == before


def test_a_command_does_not_read_the_shells_input(piped: Piped) -> None:
    assert piped.run("cat") == Finished(0, b"", b"")
    assert piped.run("read line") == Finished(1, b"", b"")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stdin=hostile.filter(bool), code=codes)
def test_a_command_reads_exactly_what_it_is_given_and_its_status_counts(piped: Piped, stdin: bytes, code: int) -> None:
    assert piped.give(f"cat; echo err >&2; exit {code}", stdin) == Finished(code, stdin, b"err\n")


def test_a_command_may_ignore_what_it_is_given(piped: Piped) -> None:
    assert piped.give("exit 5", bytes(30_000)).code == 5
    assert [piped.give("true", bytes(30_000)) for _ in range(20)] == [Finished(0, b"", b"")] * 20


@pytest.mark.parametrize("shell", SHELLS)
def test_input_that_could_not_be_decoded_is_doubt(shell: str, tmp_path: Path) -> None:
    (tmp_path / "base64").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "base64").chmod(0o755)
    piped = Piped(shell)
    try:
        piped.stdin.write(f"PATH={tmp_path}:$PATH\n".encode())
        with pytest.raises(UnframedError):
            piped.give("cat", b"da\0ta")
    finally:
        piped.close()


def test_what_the_shell_cannot_find_is_an_error_of_the_command(piped: Piped) -> None:
    assert piped.run("no-such-command-here").code == 127
    assert piped.run("/").code == 126
    assert piped.run("true") == Finished(0, b"", b"")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_child_that_writes_after_its_command_ended_is_doubt(shell: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    piped = Piped(shell)
    try:
        token = new_token()
        piped.stdin.write(script(shlex.join(["sh", "-c", f"{{ read x; echo late; }} < {go} &"]), token))
        frame = Frame(token)
        assert piped.read(frame).code == 0
        go.write_text("now\n")
        with pytest.raises(UnframedError):
            piped.read(frame)
    finally:
        piped.close()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("frame", [script, noisy_script, lambda line, token: script_with_input(line, token, b"some input")])
def test_a_script_cut_anywhere_runs_nothing(shell: str, frame, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ran = tmp_path / "ran"
    line = f"LC_ALL=C.UTF-8 touch {ran} 'it'\"'\"'s'{tmp_path}"
    whole = frame(line, TOKEN)
    for length in range(len(whole) - 1):  # the last byte ends the line: without it the text is still whole
        done = subprocess.run([shell], input=whole[:length], capture_output=True, check=False, cwd=tmp_path)
        assert (done.stdout, ran.exists()) == (b"", False), whole[:length]
    subprocess.run([shell], input=whole, capture_output=True, check=True, cwd=tmp_path)
    assert ran.exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_noise_before_is_dropped_by_a_real_shell(shell: str) -> None:
    piped = Piped(shell)
    try:
        token = new_token()
        piped.stdin.write(b"echo welcome; echo news >&2\n" + noisy_script("echo out; echo err >&2; exit 7", token))
        assert piped.read(Frame(token, noisy=True)) == Finished(7, b"out\n", b"err\n")
    finally:
        piped.close()


def test_reading_a_big_output_takes_time_in_proportion() -> None:
    frame = Frame(TOKEN)
    started = time.process_time()
    assert not any(frame.feed(MARK[:-1] * 1000) for _ in range(1500))
    assert time.process_time() - started < 10
