"""Who may use which session of which connection: bounds, a fair queue, and what is closed when.

Nothing here knows SSH; a connection and a session are things that can be asked whether they are usable, and closed.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, Generic

from schemas.errors import FirecrestError, MachineNotAvailable, TimedOut, TooManyRequests
from workers.members import C, Closable, Entrance, Member, S, Slot, Waiter

MAX_AGE: Final = 900.0
# The part of a connection's life after which it is to be succeeded by another.
_AGING: Final = 0.75


@dataclass(frozen=True)
class Bounds:
    """What a pool may hold: connections in all, callers waiting per entrance, and how long a connection stays."""

    connections: int
    waiting: int
    idle_seconds: float
    max_age: float = MAX_AGE


class Pool(Generic[C, S]):
    """The connections of one process."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._lock = threading.Lock()
        self._entrances: dict[tuple[str, str], Entrance[C, S]] = {}
        self._members: list[Member[C, S]] = []
        self._stopped = threading.Event()
        self._reaper: threading.Thread | None = None

    def take(self, key: tuple[str, str], *, sessions: int, connections: int, deadline: float, fresh: bool = False) -> Slot[C, S]:
        """A slot on a connection of that entrance, first come first served; `fresh` asks for one without a warm session.

        Raises TooManyRequests when too many wait, TimedOut at the deadline (of `time.monotonic`), MachineNotAvailable when closed.
        """
        waiter = Waiter[C, S](fresh=fresh, since=time.monotonic())
        with self._account() as rubbish:
            if self._stopped.is_set():
                raise MachineNotAvailable("Machine is not available")
            self._watch()
            entrance = self._entrances.setdefault(key, Entrance(key, sessions, connections))
            if not entrance.waiting:
                waiter.slot = self._grant(entrance, rubbish, fresh=fresh)
            if waiter.slot:
                return waiter.slot
            if len(entrance.waiting) >= self._bounds.waiting:
                raise TooManyRequests("Too many requests at once", says="1")
            entrance.waiting.append(waiter)
            self._entrances[key] = entrance
        return self._await(entrance, waiter, deadline)

    def spared(self, slot: Slot[C, S], *, seconds: float) -> S | None:
        """A warm session of the slot's connection that is left by then, or None: open one.

        One of those who hold slots on it is told to open one at once: they must not all wait for each other.
        """
        member, offer = slot.member, SimpleQueue[S]()
        with self._lock:
            if member.idle:
                return member.idle.pop()
            if len(member.hoping) + 1 >= member.taken:
                return None
            member.hoping.append(offer)
        with suppress(Empty):
            return offer.get(timeout=seconds)
        with self._lock:
            if offer in member.hoping:
                member.hoping.remove(offer)
                return None
        return offer.get()

    def keep(self, slot: Slot[C, S], session: S) -> None:
        """Give a slot back, its session warm."""
        member = slot.member
        with self._account() as rubbish:
            member.proven = time.monotonic()
            if member.hoping and not member.gone:
                member.hoping.popleft().put(session)
            else:
                member.idle.append(session)
            self._free(slot, rubbish)

    def drop(self, slot: Slot[C, S], *, lost: bool = False) -> None:
        """Give a slot back without a session; `lost`: the server may believe for long that the session is in use."""
        with self._account() as rubbish:
            slot.member.lost += lost
            self._free(slot, rubbish)

    def expel(self, member: Member[C, S], failure: FirecrestError | None = None) -> None:
        """Use a connection no more; `failure` is what everybody who holds a slot on it is told."""
        with self._account() as rubbish:
            member.failure = failure
            self._remove(member, rubbish)

    def admit(self, member: Member[C, S], connection: C) -> bool:
        """Keep a connection that was just opened; False, and it is closed, when it is not wanted any more."""
        with self._account() as rubbish:
            if member.gone:
                rubbish.append(connection)
            else:
                member.connection = connection
            return not member.gone

    def aging(self, member: Member[C, S]) -> bool:
        """Whether a connection that stands has come so near its end that another should take its place."""
        return member.connection is not None and not member.retired and time.monotonic() - member.born > _AGING * self._bounds.max_age

    def succeed(self, member: Member[C, S]) -> Slot[C, S] | None:
        """A slot on a new connection, one more than the entrance may have, which is to take the place of an aging one.

        None if it is not aging, or there is no room.
        """
        with self._account() as rubbish:
            if not self.aging(member) or member.gone or self._stopped.is_set() or not self._make_room(rubbish, sparing=member):
                return None
            heir = self._found(member.entrance)
            heir.taken += 1
            return Slot(heir, None)

    def retire(self, member: Member[C, S]) -> None:
        """Give a connection to nobody any more; it is closed when nobody uses it."""
        with self._account() as rubbish:
            member.retired = True
            if not member.taken:
                self._remove(member, rubbish)
            self._serve(rubbish)

    def reap(self) -> None:
        """Close what has been idle too long, is too old, or broke."""
        with self._account() as rubbish:
            now = time.monotonic()
            for member in [member for member in self._members if not member.taken]:
                if member.dead() or self._aged(member) or now - member.used > self._bounds.idle_seconds:
                    self._remove(member, rubbish)
            self._serve(rubbish)

    def close(self) -> None:
        """Close every connection, and turn away whoever waits."""
        self._stopped.set()
        with self._account() as rubbish:
            for member in list(self._members):
                self._remove(member, rubbish)
            for entrance in self._entrances.values():
                for waiter in entrance.waiting:
                    waiter.ready.set()
                entrance.waiting.clear()
        if self._reaper:
            self._reaper.join()

    def proven(self, key: tuple[str, str], *, seconds: float) -> bool:
        """Whether a command ended within the last `seconds` on a connection of that entrance that still stands."""
        since = time.monotonic() - seconds
        with self._lock:
            entrance = self._entrances.get(key)
            members = entrance.members if entrance else []
            return any(member.proven > since and not member.lost and any(session.usable() for session in member.idle) for member in members)

    def count(self) -> tuple[int, int]:
        """How many connections there are, and how many sessions on them."""
        with self._lock:
            return len(self._members), sum(member.taken + len(member.idle) for member in self._members)

    @contextmanager
    def _account(self) -> Iterator[list[Closable]]:
        """The lock; what is put into the list is closed after it is released, as closing may take its time."""
        rubbish: list[Closable] = []
        try:
            with self._lock:
                yield rubbish
        finally:
            for thing in rubbish:
                thing.close()

    def _await(self, entrance: Entrance[C, S], waiter: Waiter[C, S], deadline: float) -> Slot[C, S]:
        try:
            waiter.ready.wait(max(0.0, deadline - time.monotonic()))
        except BaseException:
            self._leave(entrance, waiter)
            if waiter.slot:
                self.drop(waiter.slot)
            raise
        self._leave(entrance, waiter)
        if waiter.slot:
            return waiter.slot
        if self._stopped.is_set():
            raise MachineNotAvailable("Machine is not available")
        raise TimedOut("Command has finished with timeout signal")

    def _leave(self, entrance: Entrance[C, S], waiter: Waiter[C, S]) -> None:
        with self._lock:
            if waiter in entrance.waiting:
                entrance.waiting.remove(waiter)
            if not entrance.members and not entrance.waiting:
                self._entrances.pop(entrance.key, None)

    def _free(self, slot: Slot[C, S], rubbish: list[Closable]) -> None:
        member = slot.member
        member.taken -= 1
        member.used = time.monotonic()
        if member.gone:
            rubbish += member.idle
            member.idle = []
        elif not member.taken and (member.lost or self._aged(member) or member.connection is None or member.dead()):
            self._remove(member, rubbish)
        self._serve(rubbish)

    def _serve(self, rubbish: list[Closable]) -> None:
        """Hand out what has become free, to whoever waits longest first."""
        waiting = [entrance for entrance in self._entrances.values() if entrance.waiting]
        for entrance in sorted(waiting, key=lambda entrance: entrance.waiting[0].since):
            while entrance.waiting:
                slot = self._grant(entrance, rubbish, fresh=entrance.waiting[0].fresh)
                if slot is None:
                    break
                waiter = entrance.waiting.popleft()
                waiter.slot = slot
                waiter.ready.set()

    def _grant(self, entrance: Entrance[C, S], rubbish: list[Closable], *, fresh: bool) -> Slot[C, S] | None:
        for member in [member for member in entrance.members if member.dead()]:
            self._remove(member, rubbish)
        current = [member for member in entrance.members if not self._aged(member)]
        place, session = self._place(current, rubbish, fresh=fresh)
        if place is None and len(current) < entrance.connections and self._make_room(rubbish):
            place = self._found(entrance)
        if place is None:
            return None
        place.taken += 1
        return Slot(place, session)

    def _found(self, entrance: Entrance[C, S]) -> Member[C, S]:
        now = time.monotonic()
        member = Member(entrance, born=now, used=now)
        self._members.append(member)
        entrance.members.append(member)
        self._entrances[entrance.key] = entrance
        return member

    def _place(self, members: list[Member[C, S]], rubbish: list[Closable], *, fresh: bool) -> tuple[Member[C, S] | None, S | None]:
        if not fresh:
            for member in members:
                while member.idle:
                    session = member.idle.pop()
                    if session.usable():
                        return member, session
                    rubbish.append(session)
        place = next((member for member in members if member.room() > 0), None)
        if place is None:
            place = next((member for member in members if member.idle), None)
            if place:
                rubbish.append(place.idle.pop(0))
        return place, None

    def _make_room(self, rubbish: list[Closable], sparing: Member[C, S] | None = None) -> bool:
        if len(self._members) < self._bounds.connections:
            return True
        if idle := [member for member in self._members if not member.taken and member is not sparing]:
            self._remove(min(idle, key=lambda member: member.used), rubbish)
        return bool(idle)

    def _remove(self, member: Member[C, S], rubbish: list[Closable]) -> None:
        if member.gone:
            return
        member.gone = True
        self._members.remove(member)
        entrance = member.entrance
        entrance.members.remove(member)
        if not entrance.members and not entrance.waiting:
            self._entrances.pop(entrance.key, None)
        rubbish += [*member.idle, *([member.connection] if member.connection else [])]
        member.idle = []

    def _aged(self, member: Member[C, S]) -> bool:
        return member.retired or time.monotonic() - member.born > self._bounds.max_age

    def _watch(self) -> None:
        if self._reaper is None and not self._stopped.is_set():
            self._reaper = threading.Thread(target=self._reap_regularly, name="ssh-reaper", daemon=True)
            self._reaper.start()

    def _reap_regularly(self) -> None:
        while not self._stopped.wait(min(5.0, self._bounds.idle_seconds / 4)):
            self.reap()
