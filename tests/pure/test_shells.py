"""Reading a session whose streams have said all that they will."""

import time

import paramiko
import pytest

from schemas.errors import CommandFailed, TimedOut
from workers.framing import Frame
from workers.host import Finished
from workers.shells import LostError, _Outputs

TOKEN = "_0123456789abcdef"
MARK = TOKEN.encode()


def session(stdout: bytes = b"", stderr: bytes = b"", *, ended: bool = True) -> paramiko.Channel:
    """A session that holds this, unread."""
    channel = paramiko.Channel(1)
    channel.in_buffer.feed(stdout)
    channel.in_stderr_buffer.feed(stderr)
    if ended:
        channel.eof_received = True
        channel.in_buffer.close()
        channel.in_stderr_buffer.close()
    return channel


def read(channel: paramiko.Channel, *, most: int = 10_000_000, seconds: float = 60) -> Finished:
    """What comes of it, given so much time."""
    return _Outputs(channel).read(Frame(TOKEN, most=most), time.monotonic() + seconds)


def test_all_that_arrived_before_the_end_of_a_session_is_read() -> None:
    big = bytes(3_000_000)
    assert read(session(big + MARK + b" 0\n", big + MARK + b"\n")) == Finished(0, big, big)


def test_an_end_before_the_output_is_whole_is_a_loss() -> None:
    for stdout, stderr in ((b"", b""), (b"half", b""), (MARK + b" 0\n", b""), (MARK + b" 0", MARK + b"\n")):
        with pytest.raises(LostError):
            read(session(stdout, stderr))


def test_a_byte_too_many_is_a_loss() -> None:
    with pytest.raises(LostError):
        read(session(MARK + b" 0\nlate", MARK + b"\n", ended=False))


def test_silence_is_given_up_at_the_deadline() -> None:
    with pytest.raises(TimedOut):
        read(session(b"half", ended=False), seconds=0.05)


class Endless:
    """A sink whose session never runs dry."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self.channel = channel

    def begin(self) -> None:
        """Nothing to forget."""

    def take(self, piece: bytes) -> None:
        """As much comes as goes."""
        self.channel.in_buffer.feed(piece)


def test_output_without_end_is_given_up_at_the_deadline() -> None:
    channel = session(bytes(1000), ended=False)
    with pytest.raises(TimedOut):
        _Outputs(channel).read(Frame(TOKEN, sink=Endless(channel)), time.monotonic() + 0.05)


def test_too_much_is_refused() -> None:
    with pytest.raises(CommandFailed, match=r"Command output exceeded buffer limit \(100\)"):
        read(session(bytes(101), ended=False), most=100)
