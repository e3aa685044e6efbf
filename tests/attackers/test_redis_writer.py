"""Who writes to Redis, as its administrator or as any of its users: nobody becomes somebody else by it (docs/security.md)."""

import hashlib
import json
import pickle
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.exceptions import ResponseError

from broker.blobs import BlobLost, Blobs
from broker.keys import sealing_key
from broker.links import LinkSealer
from broker.redis_users import RULES, USERS
from schemas.errors import FirecrestError
from schemas.fields import Upload
from schemas.settings import Limits
from tests.attackers.arms import Insider
from tests.attackers.conftest import Folder, Forger
from tests.hosts.own_sshd import OwnSshd
from tests.real_site import Client, Site, eventually
from tests.site.test_secrecy import canary
from tests.site.transfers import at, upload
from workers.certificates import UserKey
from workers.host import Command
from workers.ssh import SSHPool

QUEUES = ("utilities", "compute", "storage", "reservations", "beat", "delegation")
CHANGED = "What this task says was changed by somebody else"


class Bomb:
    """What runs a command when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return Path.write_text, (Path(self._path), "owned")  # type: ignore[return-value]


def message(task: str, body: bytes, *, kind: str = "application/json", encoding: str = "utf-8") -> str:
    """A message of Celery's."""
    task_id = uuid4().hex
    headers = {"lang": "py", "task": task, "id": task_id, "root_id": task_id, "argsrepr": "", "kwargsrepr": "", "retries": 0}
    properties = {
        "correlation_id": task_id,
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": task.partition(".")[0]},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": uuid4().hex,
    }
    content = {
        "body": b64encode(body).decode(),
        "content-encoding": encoding,
        "content-type": kind,
        "headers": headers,
        "properties": properties,
    }
    return json.dumps(content)


def call(*words: Any, **named: Any) -> bytes:
    """The body of a message."""
    return json.dumps([words, named, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()


@pytest.fixture
def alive(alice: Client) -> Callable[[], None]:
    """States that calls are answered still."""
    return lambda: eventually(lambda: alice.get("/utilities/whoami").json().get("output") == "fcalice", seconds=60)


# messages that are no calls


KINDS = ("x-python-serialize", "x-yaml", "x-msgpack")


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_is_unpickled(site: Site, tmp_path: Path, alive: Callable[[], None], kind: str) -> None:
    bomb, redis = str(tmp_path / "owned"), site.redis()
    pickle.loads(pickle.dumps(Bomb(bomb)))
    assert Path(bomb).read_text() == "owned", "the bomb works"
    Path(bomb).unlink()
    yaml = f'!!python/object/apply:os.system ["touch {bomb}"]'.encode()
    for queue in QUEUES:
        content = yaml if "yaml" in kind else pickle.dumps(((Bomb(bomb),), {}, {}))
        redis.lpush(queue, message(f"{queue}.Passage", content, kind=f"application/{kind}", encoding="binary"))
    eventually(lambda: not any(redis.llen(queue) for queue in QUEUES), seconds=60)
    alive()
    assert not Path(bomb).exists()


NO_CALLS: dict[str, dict[str, Any]] = {
    "text": {"kind": "text/plain"},
    "bytes": {"kind": "application/data", "encoding": "binary"},
    "an unknown encoding": {"encoding": "x-nothing"},
    "a number": {"body": b"5"},
    "nothing": {"body": b"null"},
    "an object": {"body": b"{}"},
    "too few": {"body": b"[]"},
    "other kinds": {"body": b'[5, "x", 7]'},
    "no JSON": {"body": b"{{{"},
    "deep": {"body": b"[" * 100_000},
    "no headers": {"headers": {}},
    "a task that is none": {"headers": {"task": ["x"], "id": {"x": 1}}},
    "times that are none": {"headers": {"task": "utilities.Passage", "id": "x", "eta": "x", "expires": [], "timelimit": "x"}},
}


@pytest.mark.parametrize("case", NO_CALLS)
def test_no_message_stops_a_worker(site: Site, alive: Callable[[], None], case: str) -> None:
    """What Celery itself would end for, and have back in the queue for the next worker, is dropped."""
    redis, change = site.redis(), dict(NO_CALLS[case])
    processes = [site.supervisor("pid", name) for name in ("worker-1", "worker-2", "delegation", "housekeeping")]
    body = change.pop("body", b"[[], {}, {}]")
    headers = {"headers": change.pop("headers")} if "headers" in change else {}
    for queue in QUEUES:
        text = message(f"{queue}.Passage", body, **change)
        redis.lpush(queue, json.dumps(json.loads(text) | headers))
    eventually(lambda: not any(redis.llen(queue) for queue in QUEUES), seconds=60)
    alive()
    assert [site.supervisor("pid", name) for name in ("worker-1", "worker-2", "delegation", "housekeeping")] == processes


BUILT_IN = [f"celery.{name}" for name in ("map", "starmap", "chunks", "group", "chain", "chord", "accumulate", "backend_cleanup")]


def test_no_task_that_celery_brings_along_performs_anything(site: Site, mkdir: Forger, folder: Folder, alive: Callable[[], None]) -> None:
    path, redis = canary(folder), site.redis()
    inner = {
        "task": "utilities.Mkdir",
        "args": [{"targetPath": path}],
        "kwargs": {},
        "options": {},
        "subtask_type": None,
        "immutable": False,
    }
    for name in BUILT_IN:
        for words in ((inner, [[{"targetPath": path}]]), ([inner, inner],), (inner,), ()):
            redis.lpush("utilities", message(name, call(*words, task=inner, it=[[{"targetPath": path}]])))
    embedded = [[{"targetPath": path}], {}, {"callbacks": [inner], "errbacks": [inner], "chain": [inner], "chord": inner}]
    redis.lpush("utilities", message("utilities.Passage", json.dumps(embedded).encode()))
    eventually(lambda: not redis.llen("utilities"), seconds=60)
    alive()
    assert not Path(path).exists()


# each user of Redis


@pytest.fixture
def trespassing(site: Site) -> Iterator[None]:
    """What Redis refuses meanwhile is the test's doing, and no part of the log that tests/site/test_redis_users.py looks into."""
    redis = site.redis()
    refused_before = redis.acl_log(1000)
    yield
    if not refused_before:
        redis.acl_log_reset()


@pytest.mark.usefixtures("trespassing")
@pytest.mark.parametrize("user", USERS)
def test_no_user_of_redis_has_a_call_performed_in_anybodys_name(site: Site, mkdir: Forger, folder: Folder, user: str) -> None:
    """The API's and the administrator's messages reach the workers, which refuse them; the others' do not even get there."""
    path = canary(folder)
    reaches = False
    for grant in (mkdir.signed(user="fcbob"), mkdir.swapped(user="fcbob"), mkdir.unsigned(), mkdir.kwargs["grant"]):
        mkdir.redis = Insider(site).redis(user)
        with suppress(ResponseError):
            mkdir.send(parameters=mkdir.parameters | {"targetPath": path}, grant=grant)
            reaches = True
            continue
        mkdir._sent.pop()
    mkdir.refused()
    assert reaches == (user in ("api", "worker", "admin"))
    assert not Path(path).exists()


@pytest.mark.usefixtures("trespassing")
@pytest.mark.parametrize("user", USERS)
def test_no_user_of_redis_gets_a_certificate(site: Site, mkdir: Forger, user: str) -> None:
    """Who may send to the delegation is a worker by Redis' account, and no worker by its key."""
    insider = Insider(site)
    asked = {
        "call": uuid4().hex,
        "worker": "x",
        "public_key": UserKey().public_line(),
        "grant": mkdir.kwargs["grant"],
        "at": int(time.time()),
    }
    petition = jwt.encode(asked | {"grant": mkdir.kwargs["grant"]}, Ed25519PrivateKey.generate(), algorithm="EdDSA")
    listener = site.redis().pubsub()
    with closing(listener):
        channel = f"replies:{uuid4().hex}"
        listener.subscribe(channel)
        try:
            insider.redis(user).lpush("delegation", message("delegation.Certify", call(petition, reply=channel)))
        except ResponseError:
            assert user not in ("worker", "admin", "delegation")
            return
        answer = eventually(lambda: _heard(listener), seconds=30)
    assert user in ("worker", "admin", "delegation")
    assert "ssh-ed25519-cert" not in answer
    assert "AccessDenied" in answer


def _heard(listener: Any) -> str:
    found = listener.get_message(timeout=1)
    return found["data"].decode() if found and found["type"] == "message" else ""


# records


@pytest.fixture
def waiting(site: Site, alice: Client, folder: Folder) -> dict[str, Any]:
    """An upload of alice that waits for its file."""
    return at(alice, upload(alice, folder.path, "/etc/hostname"), "111")


def test_no_command_is_put_into_anybodys_task(site: Site, alice: Client, mallory: Client, waiting: dict[str, Any], folder: Folder) -> None:
    """Clients run what a task at 111 tells them to: it is a worker's word for this task and user, or it is not told."""
    redis, task_id = site.redis(), waiting["task_id"]
    assert "curl" in waiting["data"]["msg"]["command"]
    record = f"task:{task_id}"
    kept = redis.hget(record, "data")
    evil = {"command": "touch /tmp/owned", "parameters": {}}
    theirs = at(mallory, upload(mallory, "/home/fcmallory", "/etc/hostname"), "111")
    foreign = json.loads(redis.hget(f"task:{theirs['task_id']}", "data"))["msg"]
    own = LinkSealer(Ed25519PrivateKey.generate, _box(site))
    for msg in (evil, [evil], foreign, own.sealed(evil, task_id=task_id, user="fcalice"), None):
        redis.hset(record, "data", json.dumps(json.loads(kept) | {"msg": msg}))
        assert alice.get(f"/tasks/{task_id}").json()["task"]["data"] == CHANGED
        assert alice.get("/tasks", params={"tasks": task_id}).json()["tasks"][task_id]["data"] == CHANGED
    redis.hset(record, mapping={"data": kept, "user": "fcmallory"})
    assert mallory.get(f"/tasks/{task_id}").json()["task"]["data"] == CHANGED, "the record is hers now, the link is not"
    redis.hset(record, "user", "fcalice")
    assert alice.get(f"/tasks/{task_id}").json()["task"]["data"] == waiting["data"]
    for client, one in ((alice, task_id), (mallory, theirs["task_id"])):
        assert client.delete(f"/tasks/{one}").status_code == 200


def _box(site: Site) -> Callable[[], Any]:
    return lambda: sealing_key(Path(site.facts["keys"]["public"]), "links")


def test_a_record_of_ones_own_making_is_never_performed(site: Site, submission: Forger, folder: Folder) -> None:
    """The sweeper sends what a due record holds: with a grant that no API has signed, workers do nothing of it."""
    redis, task_id = site.redis(), uuid4().hex
    sent = {"operation": "compute.SubmitPath", "parameters": submission.parameters, "shown": ""}
    sent["grant"] = submission.signed(user="fcbob", task_id=task_id)
    before = set(site.slurm("squeue", "--noheader", "--states=all", "--format=%i").split())
    facts = {"user": "fcbob", "service": "compute", "system": "cluster", "status": "100", "data": '"Queued"', "message": json.dumps(sent)}
    moments = {"created": time.time(), "updated": time.time(), "sent": time.time() - 60, "lease": 0, "lifetime": 600}
    counts = {"attempt": 1, "accepted": 0, "holder": "", "confirmed": 1, "stoppable": 1, "steps": 0}
    redis.hset(f"task:{task_id}", mapping=facts | moments | counts)
    redis.zadd("tasks:open", {task_id: time.time() - 1, "no such task": 1, "of:fcbob": 1})
    try:
        eventually(lambda: int(redis.hget(f"task:{task_id}", "attempt") or 0) > 1, seconds=60)
        time.sleep(3)
    finally:
        redis.delete(f"task:{task_id}")
        redis.zrem("tasks:open", task_id)
    assert set(site.slurm("squeue", "--noheader", "--states=all", "--format=%i").split()) <= before
    assert Path(folder.path, "mark").read_text() == "fcalice\n"
    eventually(lambda: redis.zscore("tasks:open", "no such task") is None, seconds=30)


# files


def test_a_file_in_transit_that_was_exchanged_is_not_taken(site: Site) -> None:
    """The grant states a file's digest with the other parameters: other bytes under its key are no file."""
    redis, blobs = site.redis(), Blobs(site.redis())
    content = b"#!/bin/sh\ntrue\n"
    kept = blobs.put([content], seconds=60)
    told = Upload(name="job.sh", key=kept.key, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    assert b"".join(blobs.read(told)) == content
    for other in (b"#!/bin/sh\nevil\n", b"", content + b"x", content[:-1]):
        redis.hset(f"blob:{kept.key}", "0", other)
        with pytest.raises(BlobLost):
            b"".join(blobs.read(told))
    blobs.drop(kept.key)


# answers


@pytest.fixture
def real() -> Any:
    server = OwnSshd("fcalice")
    server.start()
    yield server
    server.remove()


def test_a_false_answer_instead_of_a_certificate_opens_nothing(real: OwnSshd) -> None:
    """Whoever publishes first is believed, for a moment: what is no certificate of the CA for this key and user lets nobody in."""
    stranger = OwnSshd("fcalice")
    wrong: dict[str, Callable[[str], str]] = {
        "another CA": stranger.certify,
        "another key": lambda _: real.certify(UserKey().public_line()),
        "no certificate": lambda key: key,
        "nothing": lambda _: "",
        "words": lambda _: "ssh-ed25519-cert-v01@openssh.com AAAA evil\nssh-rsa x",
    }
    for case, certify in wrong.items():
        pool = SSHPool(Limits())
        with pytest.raises((FirecrestError, ValueError, paramiko.SSHException)):
            pool.host(real.system(), "fcalice", certify).run(Command(("id",), bytes))
        pool.close()
        assert real.logins() == 0, case
    stranger.remove()


# health


def test_a_lie_about_a_system_lasts_until_the_next_probe(site: Site, alice: Client) -> None:
    redis = site.redis()
    eventually(lambda: alice.get("/status/systems/cluster").json()["out"]["status"] == "available", seconds=60)
    redis.hset("health:beat.ProbeSystem", "cluster", json.dumps({"at": time.time(), "well": {"cluster": False}}))
    eventually(lambda: alice.get("/status/systems/cluster").json()["out"]["status"] == "available", seconds=60)
    assert alice.get("/utilities/whoami").status_code == 200, "and no call depends on it"


def test_the_users_tried_here_are_all_there_are() -> None:
    assert set(USERS) == {*RULES, "admin"}
