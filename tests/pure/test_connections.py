"""The socket under a connection."""

import select
import socket
from collections.abc import Iterator

import pytest

from workers.connections import PromptSocket


@pytest.fixture
def sides() -> Iterator[tuple[PromptSocket, socket.socket]]:
    """This side and the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = PromptSocket(fileno=socket.create_connection(server.getsockname()).detach())
        there, _ = server.accept()
    yield ours, there
    ours.close()
    there.close()


def test_a_connection_that_stands_is_not_cut_off(sides: tuple[PromptSocket, socket.socket]) -> None:
    ours, there = sides
    there.sendall(b"word")

    assert not ours.cut_off()


def test_an_end_is_seen_behind_what_is_not_read_yet(sides: tuple[PromptSocket, socket.socket]) -> None:
    ours, there = sides
    there.sendall(b"last words")
    there.close()
    assert select.select([ours], [], [], 5)[0]

    assert (ours.cut_off(), ours.recv(100)) == (True, b"last words")


def test_a_socket_closed_here_is_cut_off(sides: tuple[PromptSocket, socket.socket]) -> None:
    ours, _ = sides
    ours.close()

    assert ours.cut_off()
