import pytest

from api.pace import LONGEST, PACE, Pace


def test_who_is_refused_once_is_told_at_once() -> None:
    pace = Pace()
    assert [pace.seconds(user, 10) for user in ("ann", "bob")] == [0, 0]


def test_who_goes_on_is_told_at_a_steady_pace_and_others_do_not_wait_for_it() -> None:
    pace = Pace()
    assert [pace.seconds("ann", 10) for _ in range(5)] == pytest.approx([number / PACE for number in range(5)])
    assert pace.seconds("bob", 10) == 0


def test_nobody_waits_for_longer_than_clients_do() -> None:
    pace = Pace()
    assert max(pace.seconds("ann", 10) for _ in range(10 * int(LONGEST * PACE))) == LONGEST


def test_who_has_waited_is_told_at_once_again() -> None:
    pace = Pace()
    for _ in range(PACE):
        pace.seconds("ann", 10)
    assert pace.seconds("ann", 11.1) == 0


def test_turns_that_are_over_are_forgotten_when_there_are_many() -> None:
    pace = Pace()
    for number in range(4001):
        pace.seconds(f"user{number}", 10)
    pace.seconds("ann", 20)
    assert len(pace._turns) == 1
