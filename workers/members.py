"""What a pool of connections keeps account of."""

import threading
from collections import deque
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from schemas.errors import FirecrestError


class Closable(Protocol):
    """What the pool keeps."""

    def usable(self) -> bool:
        """Whether it can still be used."""

    def close(self) -> None:
        """Free it."""


C = TypeVar("C", bound=Closable)
S = TypeVar("S", bound=Closable)


@dataclass(eq=False)
class Entrance(Generic[C, S]):
    """One user's way into one system: at most `connections` connections of `sessions` sessions each."""

    key: tuple[str, str]
    sessions: int
    connections: int
    members: list["Member[C, S]"] = field(default_factory=list)
    waiting: deque["Waiter[C, S]"] = field(default_factory=deque)


@dataclass(eq=False)
class Member(Generic[C, S]):
    """A connection as the pool keeps account of it; `connection` is None until whoever got a slot on it has opened it.

    `taken` sessions are in use, `idle` ones wait warm, `lost` ones may still be occupied at the server by commands that
    were given up. `proven` is when a command has last ended on it. `retired`: it has a successor. `hoping` are holders of slots
    without a session, who would rather have one that somebody else is done with than open one.
    """

    entrance: Entrance[C, S]
    born: float
    used: float
    connection: C | None = None
    idle: list[S] = field(default_factory=list)
    taken: int = 0
    lost: int = 0
    proven: float = float("-inf")
    retired: bool = False
    gone: bool = False
    failure: FirecrestError | None = None
    opening: threading.Lock = field(default_factory=threading.Lock)
    hoping: deque[SimpleQueue[S]] = field(default_factory=deque)

    def room(self) -> int:
        """How many more sessions may be opened on it."""
        return self.entrance.sessions - self.taken - self.lost - len(self.idle)

    def dead(self) -> bool:
        """Whether its connection has broken."""
        return self.connection is not None and not self.connection.usable()


@dataclass(eq=False)
class Slot(Generic[C, S]):
    """The right to use one session of a connection; `session` is a warm one, or None: open one."""

    member: Member[C, S]
    session: S | None


@dataclass(eq=False)
class Waiter(Generic[C, S]):
    """Somebody without a slot; `fresh`: who wants no warm session."""

    fresh: bool
    since: float
    ready: threading.Event = field(default_factory=threading.Event)
    slot: Slot[C, S] | None = None
