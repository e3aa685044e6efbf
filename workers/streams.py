"""What commands read and print, in pieces: none of it has to fit into memory."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from schemas.errors import CommandFailed


@dataclass(frozen=True)
class Source:
    """What a command reads: `size` bytes. Every call of `pieces` gives them from the start; it may raise instead of giving all."""

    size: int
    pieces: Callable[[], Iterable[bytes]]

    @classmethod
    def of(cls, content: bytes) -> Self:
        """These bytes."""
        return cls(len(content), lambda: (content,))

    def whole(self) -> bytes:
        """All of it at once. Raises what `pieces` raises."""
        return b"".join(self.pieces())


class Sink(Protocol):
    """Takes what a command prints while it runs. What either method raises ends the command and is raised to its caller."""

    def begin(self) -> None:
        """Forget what came before: the command is run, perhaps again."""

    def take(self, piece: bytes) -> None:
        """Take what comes next; nothing more is read from the system until this returns."""


class Kept:
    """A sink that keeps what it takes, but no more than `most` bytes: beyond that it raises CommandFailed."""

    def __init__(self, most: float = float("inf")) -> None:
        self._most = most
        self._content = bytearray()

    def begin(self) -> None:
        """Start anew."""
        self._content.clear()

    def take(self, piece: bytes) -> None:
        """Keep it too."""
        if len(self._content) + len(piece) > self._most:
            raise CommandFailed(f"Command output exceeded buffer limit ({self._most})")
        self._content += piece

    def content(self) -> bytes:
        """All that was taken."""
        return bytes(self._content)


class Feeding:
    """A source on its way into a command, in a thread of its own: a command may print before it has read everything.

    `write` tells whether the command takes more. `end` closes the command's input, after all of it or where the source
    failed: a command that must not take a part for the whole has to know the size.
    """

    def __init__(self, source: Source, write: Callable[[bytes], bool], end: Callable[[], None]) -> None:
        self._failure: Exception | None = None
        threading.Thread(target=self._feed, args=(source, write, end), name="stdin", daemon=True).start()

    def check(self) -> None:
        """Raise what the source raised, once the command has ended."""
        if self._failure is not None:
            raise self._failure

    def _feed(self, source: Source, write: Callable[[bytes], bool], end: Callable[[], None]) -> None:
        try:
            for piece in source.pieces():
                if not write(piece):
                    return
        except Exception as failed:  # noqa: BLE001 (the outermost frame of the thread; raised again in the caller's)
            self._failure = failed
        end()
