"""Renewals: beside a call, one of an entrance, few at all, not again at once after a failure."""

import logging
import threading

import pytest

from schemas.errors import MachineNotAvailable
from tests.real_site import eventually
from workers.renewals import Renewals

ENTRANCE = ("system", "user")


def over(renewals: Renewals) -> None:
    """Wait until none is under way."""
    eventually(lambda: not renewals._under_way, pause=0.01)


def test_only_one_renewal_of_an_entrance_and_few_at_all_are_under_way() -> None:
    renewals, done, go = Renewals(), [], threading.Event()

    def renew() -> None:
        done.append(1)
        assert go.wait(10)

    for user in "aabbccddeeff":
        renewals.beside(("system", user), renew)
    go.set()
    over(renewals)
    assert len(done) == 4
    renewals.beside(("system", "a"), renew)
    over(renewals)
    assert len(done) == 5


def test_after_a_failure_there_is_none_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    renewals, tried = Renewals(), []
    caplog.set_level(logging.WARNING)

    def renew() -> None:
        tried.append(1)
        raise MachineNotAvailable("Machine is not available")

    for _ in range(3):
        renewals.beside(ENTRANCE, renew)
        over(renewals)
    assert len(tried) == 1
    assert "could not be renewed: Machine is not available" in caplog.text
    renewals._later[ENTRANCE] -= 60
    renewals.beside(ENTRANCE, renew)
    over(renewals)
    assert len(tried) == 2
