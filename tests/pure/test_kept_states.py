"""States of tasks, as they are kept in Redis."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import CommandFailed
from workers.kept_states import KeptStates

STATES = KeptStates(Ed25519PrivateKey.generate())
STATE = {"path": "/home/ann/\udcff \U0001f600", "begun": 1763769600.123456, "verdict": ["114", {"size": 7}], "expires": 0}


def kept(task_id: str = "one", states: KeptStates = STATES) -> dict[str, Any]:
    """What Redis gives back."""
    found: dict[str, Any] = json.loads(json.dumps(states.signed(task_id, STATE)))
    return found


def test_what_a_step_has_kept_is_what_the_next_one_finds() -> None:
    assert STATES.verified("one", kept()) == STATE
    assert STATES.verified("one", {}) == {}


@pytest.mark.parametrize(
    "forged",
    [
        kept() | {"state": STATE | {"path": "/home/ann/.ssh/authorized_keys"}},
        kept("another"),
        kept(states=KeptStates(Ed25519PrivateKey.generate())),
        STATE,
        {"state": STATE},
        kept() | {"signature": "no signature"},
        kept() | {"signature": None},
        [1],
    ],
)
def test_what_no_worker_has_signed_for_the_task_is_refused(forged: Any) -> None:
    with pytest.raises(CommandFailed):
        STATES.verified("one", forged)
