"""Connections of those who were refused: told in their turn, listened to without being heard, and closed."""

import socket
import time
from collections.abc import Iterator

import pytest

from api.lobby import LINGER, PACE, Lobby


@pytest.fixture
def lobby() -> Iterator[Lobby]:
    lobby = Lobby()
    yield lobby
    lobby.close()


def guest(lobby: Lobby, answer: bytes, key: str = "k") -> socket.socket:
    """The client's end of a connection that the lobby was given."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    lobby.take(ours, answer, key)
    return theirs


def told(client: socket.socket) -> bytes:
    """All that comes until the connection is at its end, which it then is on both sides."""
    with client:
        return b"".join(iter(lambda: client.recv(100), b""))


def test_who_is_refused_once_is_told_at_once(lobby: Lobby) -> None:
    begun = time.monotonic()

    assert told(guest(lobby, b"no", "one")) == b"no"
    assert told(guest(lobby, b"no", "another")) == b"no"
    assert time.monotonic() - begun < 1


def test_who_goes_on_is_told_at_a_steady_pace_and_others_do_not_wait_for_it(lobby: Lobby) -> None:
    begun = time.monotonic()
    crowd = [guest(lobby, b"no", "many") for _ in range(PACE)]

    assert told(guest(lobby, b"no", "other")) == b"no"
    other = time.monotonic() - begun
    assert [told(client) for client in crowd] == [b"no"] * PACE
    assert time.monotonic() - begun > (PACE - 1) / PACE
    assert other < time.monotonic() - begun


def test_what_still_comes_is_thrown_away_and_does_not_cost_the_answer(lobby: Lobby) -> None:
    client = guest(lobby, b"no")
    client.sendall(b"x" * 10_000_000)

    assert told(client) == b"no"


def test_who_does_not_leave_is_left_behind(lobby: Lobby) -> None:
    end = time.monotonic() + LINGER + 15
    with guest(lobby, b"no") as client:
        while _takes_more(client):
            assert time.monotonic() < end
            time.sleep(0.05)


def _takes_more(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
    except OSError:
        return False
    return True


def test_a_connection_that_ends_without_an_answer_is_closed(lobby: Lobby) -> None:
    assert told(guest(lobby, b"")) == b""


def test_who_has_gone_is_nobody_to_fail_for(lobby: Lobby) -> None:
    guest(lobby, b"no").close()

    assert told(guest(lobby, b"no", "other")) == b"no"


def test_a_lobby_that_closes_tells_everybody() -> None:
    lobby = Lobby()
    crowd = [guest(lobby, b"no") for _ in range(5 * PACE)]
    begun = time.monotonic()
    lobby.close()

    assert [told(client) for client in crowd] == [b"no"] * len(crowd)
    assert time.monotonic() - begun < LINGER
