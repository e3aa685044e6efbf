"""The pool's bounds and its queue, with connections that are nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from schemas.errors import MachineNotAvailable, TimedOut, TooManyRequests
from workers.members import Slot
from workers.pool import Bounds, Pool

KEY = ("system", "user")


@dataclass(eq=False)
class Thing:
    """Something that can be closed, or break."""

    good: bool = True
    closed: bool = False

    def usable(self) -> bool:
        return self.good and not self.closed

    def close(self) -> None:
        self.closed = True


MakePool = Callable[..., Pool[Thing, Thing]]


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    pools: list[Pool[Thing, Thing]] = []

    def make(connections: int = 10, waiting: int = 10, idle_seconds: float = 3600, max_age: float = 3600) -> Pool[Thing, Thing]:
        pools.append(Pool(Bounds(connections, waiting, idle_seconds, max_age)))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def take(pool: Pool[Thing, Thing], key: tuple[str, str] = KEY, *, seconds: float = 10, fresh: bool = False) -> Slot[Thing, Thing]:
    """A slot, of entrances with two connections of two sessions each; its connection opened."""
    slot = pool.take(key, sessions=2, connections=2, deadline=time.monotonic() + seconds, fresh=fresh)
    if slot.member.connection is None:
        assert pool.admit(slot.member, Thing())
    return slot


def waits(pool: Pool[Thing, Thing], key: tuple[str, str] = KEY) -> int:
    """How many callers wait."""
    entrance = pool._entrances.get(key)
    return len(entrance.waiting) if entrance else 0


def until(happens: Callable[[], bool]) -> None:
    """Wait for something."""
    end = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_one_connection_is_filled_before_the_next_is_opened(make_pool: MakePool) -> None:
    pool = make_pool()
    slots = [take(pool) for _ in range(4)]
    assert [slot.member for slot in slots] == [slots[0].member] * 2 + [slots[2].member] * 2
    assert pool.count() == (2, 4)


def test_the_session_used_last_is_used_next(make_pool: MakePool) -> None:
    pool = make_pool()
    one, two = take(pool), take(pool)
    first, second = Thing(), Thing()
    pool.keep(one, first)
    pool.keep(two, second)
    assert take(pool).session is second
    assert take(pool).session is first


def test_a_session_that_broke_while_idle_is_closed_and_not_given_out(make_pool: MakePool) -> None:
    pool = make_pool()
    broken = Thing()
    pool.keep(take(pool), broken)
    broken.good = False
    assert take(pool).session is None
    assert broken.closed


def test_a_connection_that_broke_is_replaced(make_pool: MakePool) -> None:
    pool = make_pool()
    slot = take(pool)
    pool.keep(slot, Thing())
    assert slot.member.connection
    slot.member.connection.good = False
    assert take(pool).member is not slot.member
    assert slot.member.connection.closed


def test_who_came_first_is_served_first(make_pool: MakePool) -> None:
    pool = make_pool()
    slots = [take(pool) for _ in range(4)]
    served: list[int] = []

    def call(number: int) -> None:
        slot = take(pool)
        served.append(number)
        pool.keep(slot, slot.session or Thing())

    with ThreadPoolExecutor(8) as callers:
        for number in range(8):
            callers.submit(call, number)
            until(lambda number=number: waits(pool) == number + 1)
        pool.keep(slots[0], Thing())
    assert served == list(range(8))


@contextmanager
def hoping(pool: Pool[Thing, Thing], *, seconds: float) -> Iterator[tuple[Slot[Thing, Thing], Future[Thing | None]]]:
    """A slot in use, and what somebody gets who has another on its connection, and hopes so long for a session."""
    busy, other = take(pool), take(pool)
    with ThreadPoolExecutor() as threads:
        spared = threads.submit(pool.spared, other, seconds=seconds)
        until(lambda: bool(other.member.hoping))
        yield busy, spared


def test_who_holds_a_slot_without_a_session_gets_the_one_that_is_given_back_first(make_pool: MakePool) -> None:
    pool, session = make_pool(), Thing()
    with hoping(pool, seconds=10) as (busy, spared):
        pool.keep(busy, session)
        assert spared.result() is session
    assert take(pool).session is None, "it is in use"


def test_nobody_hopes_longer_than_told_nor_when_there_is_nobody_to_hope_for(make_pool: MakePool) -> None:
    pool, session = make_pool(), Thing()
    alone = take(pool)
    assert pool.spared(alone, seconds=1000) is None
    busy = take(pool)
    assert pool.spared(alone, seconds=0.01) is None
    pool.keep(busy, session)
    assert pool.spared(alone, seconds=1000) is session


def test_of_all_who_hold_slots_one_opens_a_session(make_pool: MakePool) -> None:
    pool, session = make_pool(), Thing()
    slots = [take(pool), take(pool)]
    with ThreadPoolExecutor() as threads:
        found = {threads.submit(pool.spared, slot, seconds=10): slot for slot in slots}
        first = next(as_completed(found))
        assert first.result() is None
        pool.keep(found.pop(first), session)
        (other,) = found
        assert other.result() is session


def test_no_session_of_an_expelled_connection_is_given_to_those_who_hope(make_pool: MakePool) -> None:
    pool, session = make_pool(), Thing()
    with hoping(pool, seconds=0.2) as (busy, spared):
        pool.expel(busy.member)
        pool.keep(busy, session)
        assert spared.result() is None
    assert session.closed


def test_a_full_queue_turns_callers_away_and_a_late_one_gives_up(make_pool: MakePool) -> None:
    pool = make_pool(waiting=1)
    slots = [take(pool) for _ in range(4)]
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(take, pool, seconds=0.3)
        until(lambda: waits(pool) == 1)
        with pytest.raises(TooManyRequests) as refused:
            take(pool)
        assert refused.value.headers() == {"Retry-After": "1"}
        with pytest.raises(TimedOut):
            waiting.result()
    assert waits(pool) == 0
    pool.drop(slots[0])
    assert take(pool)


def test_a_fresh_slot_takes_the_place_of_a_warm_session_when_there_is_no_other(make_pool: MakePool) -> None:
    pool = make_pool()
    warm = [Thing() for _ in range(4)]
    for slot, session in zip([take(pool) for _ in range(4)], warm, strict=True):
        pool.keep(slot, session)
    slot = take(pool, fresh=True)
    assert slot.session is None
    assert [session.closed for session in warm].count(True) == 1
    assert pool.count() == (2, 4)
    pool.drop(slot)
    assert take(pool, fresh=True).session is None
    assert [session.closed for session in warm].count(True) == 1


def test_a_lost_session_keeps_its_place_until_its_connection_is_idle(make_pool: MakePool) -> None:
    pool = make_pool()
    one, two = take(pool), take(pool)
    pool.drop(one, lost=True)
    assert take(pool).member is not two.member
    pool.keep(two, Thing())
    assert two.member.gone
    assert two.member.connection
    assert two.member.connection.closed


def test_the_least_recently_used_idle_connection_makes_room(make_pool: MakePool) -> None:
    pool = make_pool(connections=2)
    slots = [take(pool, ("system", name)) for name in "ab"]
    with pytest.raises(TimedOut):
        take(pool, ("system", "c"), seconds=0.01)
    for slot in slots:
        pool.keep(slot, Thing())
    assert take(pool, ("system", "c")).member not in (slots[0].member, slots[1].member)
    assert (slots[0].member.gone, slots[1].member.gone) == (True, False)


def test_who_waits_for_room_is_served_when_somebody_elses_connection_becomes_idle(make_pool: MakePool) -> None:
    pool = make_pool(connections=1)
    slot = take(pool, ("system", "a"))
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(take, pool, ("system", "b"))
        until(lambda: waits(pool, ("system", "b")) == 1)
        pool.keep(slot, Thing())
        assert waiting.result().member is not slot.member
    assert slot.member.gone


def test_an_old_connection_takes_no_new_sessions_and_goes_when_idle(make_pool: MakePool) -> None:
    pool = make_pool(max_age=0.05)
    slot = take(pool)
    until(lambda: pool._aged(slot.member))
    assert take(pool).member is not slot.member
    pool.keep(slot, Thing())
    assert slot.member.gone


def test_an_entrance_is_proven_by_a_command_that_has_just_ended_well(make_pool: MakePool) -> None:
    pool = make_pool()
    assert not pool.proven(KEY, seconds=60)
    slot, other = take(pool), take(pool)
    assert not pool.proven(KEY, seconds=60)

    pool.keep(slot, warm := Thing())

    assert pool.proven(KEY, seconds=60)
    assert not pool.proven(KEY, seconds=0)
    assert not pool.proven(("system", "other"), seconds=60)
    warm.good = False
    assert not pool.proven(KEY, seconds=60)
    warm.good = True
    pool.drop(other, lost=True)
    assert not pool.proven(KEY, seconds=60), "what is lost may be lost with its system"


def test_idle_connections_are_closed_after_their_time_and_busy_ones_are_not(make_pool: MakePool) -> None:
    pool = make_pool(idle_seconds=0.05)
    idle, busy = take(pool, ("system", "a")), take(pool, ("system", "b"))
    session = Thing()
    pool.keep(idle, session)
    until(lambda: session.closed)
    assert pool.count() == (1, 1)
    assert not busy.member.gone


def test_whoever_holds_a_slot_on_an_expelled_connection_can_still_give_it_back(make_pool: MakePool) -> None:
    pool = make_pool()
    one, two = take(pool), take(pool)
    pool.expel(one.member, MachineNotAvailable("down"))
    session = Thing()
    pool.keep(two, session)
    pool.drop(one)
    assert session.closed
    assert pool.count() == (0, 0)
    assert not pool._entrances


def test_a_connection_opened_for_a_closed_pool_is_closed(make_pool: MakePool) -> None:
    pool = make_pool()
    slot = pool.take(KEY, sessions=2, connections=2, deadline=time.monotonic() + 10)
    pool.close()
    connection = Thing()
    assert not pool.admit(slot.member, connection)
    assert connection.closed
    with pytest.raises(MachineNotAvailable):
        take(pool)


def test_closing_turns_away_whoever_waits(make_pool: MakePool) -> None:
    pool = make_pool()
    for _ in range(4):
        take(pool)
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(take, pool)
        until(lambda: waits(pool) == 1)
        pool.close()
        with pytest.raises(MachineNotAvailable):
            waiting.result()


def test_many_callers_never_pass_the_bounds_and_all_are_served(make_pool: MakePool) -> None:
    pool = make_pool(connections=3, waiting=1000)
    users: dict[str, int] = dict.fromkeys("abcde", 0)
    lock, most = threading.Lock(), [0, 0]
    used: list[Thing] = []

    def call(number: int) -> None:
        user, fresh = "abcde"[number % 5], number % 7 == 0
        slot = take(pool, ("system", user), fresh=fresh)
        session = slot.session or (None if fresh else pool.spared(slot, seconds=0.001)) or Thing()
        with lock:
            assert session not in used
            used.append(session)
            users[user] += 1
            most[0] = max(most[0], users[user])
            most[1] = max(most[1], pool.count()[0])
        with lock:
            used.remove(session)
            users[user] -= 1
        if number % 3:
            pool.keep(slot, session)
        else:
            pool.drop(slot, lost=number % 2 == 0)

    with ThreadPoolExecutor(40) as callers:
        list(callers.map(call, range(3000)))
    assert most[0] <= 4
    assert most[1] <= 3


def aged(pool: Pool[Thing, Thing], slot: Slot[Thing, Thing], *, by: float) -> None:
    """Have a connection, given back warm, been there for so long."""
    slot.member.born -= by
    pool.keep(slot, slot.session or Thing())


def test_an_aging_connection_serves_on_until_its_successor_is_ready(make_pool: MakePool) -> None:
    pool = make_pool(max_age=100)
    slot = take(pool)
    assert not pool.aging(slot.member)
    aged(pool, slot, by=80)
    assert pool.aging(slot.member)
    heir = pool.succeed(slot.member)
    assert heir
    meanwhile = take(pool)
    assert meanwhile.member is slot.member
    assert pool.admit(heir.member, Thing())
    pool.keep(heir, Thing())
    pool.retire(slot.member)
    assert take(pool).member is heir.member
    assert slot.member.connection
    assert not slot.member.connection.closed
    pool.keep(meanwhile, meanwhile.session or Thing())
    assert slot.member.connection.closed
    assert pool.count() == (1, 1)


def test_a_connection_that_is_not_aging_or_is_retired_has_no_successor(make_pool: MakePool) -> None:
    pool = make_pool(max_age=100)
    slot = take(pool)
    assert pool.succeed(slot.member) is None
    aged(pool, slot, by=80)
    pool.retire(slot.member)
    assert pool.succeed(slot.member) is None
    assert pool.count() == (0, 0)


def test_a_successor_takes_no_place_that_somebody_uses(make_pool: MakePool) -> None:
    pool = make_pool(connections=2, max_age=100)
    slot, _ = take(pool), take(pool, ("system", "other"))
    aged(pool, slot, by=80)
    assert pool.succeed(slot.member) is None
    assert take(pool).member is slot.member


def test_whoever_waits_is_served_by_the_successor_of_what_is_in_use(make_pool: MakePool) -> None:
    pool = make_pool(max_age=100)
    slots = [take(pool) for _ in range(4)]
    slots[0].member.born -= 80
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(take, pool)
        until(lambda: waits(pool) == 1)
        heir = pool.succeed(slots[0].member)
        assert heir
        assert pool.admit(heir.member, Thing())
        pool.keep(heir, Thing())
        pool.retire(slots[0].member)
        assert waiting.result().member is heir.member
