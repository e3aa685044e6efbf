"""A task needs no probe when a call of its user has just ended well on the system."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from api.proofs import SECONDS, Proofs
from api.resources import Desk
from broker.gateway import Caller
from schemas.compute import Reachable, Readable
from schemas.errors import AccessDenied, FirecrestError
from schemas.operation import Operation
from schemas.rights import EVERY_RIGHT
from schemas.settings import Settings
from schemas.utilities import Whoami

ANN, BEN = (Caller(name, "token", EVERY_RIGHT) for name in ("ann", "ben"))
NONE: Any = None


class Calls:
    """A gateway that answers at once, or refuses."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.failure: FirecrestError | None = None

    def call(self, op: Operation, caller: Caller, system: str, *, task_id: str = "") -> str:
        self.made.append(f"{op.task()} {caller.user} {system}{task_id}")
        if self.failure:
            raise self.failure
        return "output"


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def desk(calls: Calls) -> Iterator[Desk]:
    key = {"host": "127.0.0.1", "host_keys": ["none"]}
    systems = [{"name": "one", **key}, {"name": "two", **key}, {"name": "forced", **key, "forced_command": "/usr/bin/wrapper"}]
    facts = {
        "issuers": [{"jwks_url": "http://127.0.0.1:9/none"}],
        "broker": {"url": "redis://127.0.0.1"},
        "keys": {"private": "a", "public": "b"},
    }
    settings = Settings.model_validate({"systems": systems, **facts})
    gateway: Any = calls
    with Flask("desk").app_context():
        yield Desk(gateway, NONE, NONE, NONE, NONE, settings)


def test_the_second_of_two_probes_is_left_out(desk: Desk, calls: Calls) -> None:
    for _ in range(2):
        desk._probe(Reachable(), ANN, "one")
    assert calls.made == ["compute.Reachable ann one"]


def test_a_call_that_ends_well_is_proof_of_its_user_on_its_system_alone(desk: Desk, calls: Calls) -> None:
    desk._call(Whoami(), ANN, "one")
    for caller, system in ((ANN, "one"), (ANN, "two"), (BEN, "one")):
        desk._probe(Reachable(), caller, system)
    assert calls.made[1:] == ["compute.Reachable ann two", "compute.Reachable ben one"]


def test_a_call_that_fails_takes_the_proof_away(desk: Desk, calls: Calls) -> None:
    desk._call(Whoami(), ANN, "one")
    calls.failure = AccessDenied("User does not have permissions to access machine")
    with pytest.raises(AccessDenied):
        desk._call(Whoami(), ANN, "one")
    with pytest.raises(FirecrestError):
        desk._probe(Reachable(), ANN, "one")
    assert len(calls.made) == 3


def test_what_a_probe_finds_out_besides_is_found_out(desk: Desk, calls: Calls) -> None:
    desk._call(Whoami(), ANN, "one")
    desk._probe(Readable(target_path="/file"), ANN, "one")
    assert len(calls.made) == 2


def test_where_every_command_has_a_certificate_every_probe_is_made(desk: Desk, calls: Calls) -> None:
    for _ in range(2):
        desk._probe(Reachable(), ANN, "forced")
    assert len(calls.made) == 2


def test_a_proof_is_good_for_seconds_and_those_that_are_over_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    proofs, now = Proofs(), [1000.0]
    monkeypatch.setattr("api.proofs.time.monotonic", lambda: now[0])
    monkeypatch.setattr("api.proofs._MANY", 3)
    for user in "abc":
        proofs.note(user, "one")
    now[0] += SECONDS - 1
    assert proofs.hold("a", "one")
    now[0] += 1
    assert not proofs.hold("a", "one")
    proofs.note("d", "one")
    assert set(proofs._seen) == {("d", "one")}
