"""Redis is not trusted: reading it yields no credential, and writing to it makes nobody somebody else."""

import json
import re
import secrets
import threading
import time
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis import Redis

from broker.grants import sign_claims
from broker.keys import signing_key
from schemas.operation import digest
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|.)")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b"}


class Witness:
    """All that MONITOR shows of a Redis while it is watched."""

    def __init__(self, redis: Redis) -> None:
        self._connection = redis.connection_pool.get_connection()
        self._lines: list[bytes] = []
        self._marker = uuid4().hex
        self._redis = redis

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs."""
        self._connection.send_command("MONITOR")
        self._connection.read_response()
        reader = threading.Thread(target=self._read)
        reader.start()
        yield
        self._redis.echo(self._marker)
        reader.join(timeout=20)
        self._connection.disconnect()
        assert not reader.is_alive()

    def _read(self) -> None:
        while not self._lines or self._marker.encode() not in self._lines[-1]:
            self._lines.append(self._connection.read_response(disable_decoding=True, timeout=20))

    def text(self) -> str:
        """Everything that was sent to Redis."""
        return b"\n".join(self._lines).decode()

    def commands(self) -> list[list[str]]:
        """The commands word by word, as they were sent."""
        return [[_plain(word) for word in _WORD.findall(line.decode())] for line in self._lines]

    def message(self, task: str, about: str) -> dict[str, Any]:
        """The one Celery message for that task whose parameters name this."""
        sent = (words[2:] for words in self.commands() if words[0].upper() == "LPUSH" and words[1] == task.partition(".")[0])
        found = [json.loads(letter) for letters in sent for letter in letters]
        (one,) = (message for message in found if message["headers"]["task"] == task and about in message["headers"]["argsrepr"])
        return dict(one)


def _plain(word: str) -> str:
    def letter(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[0] == "x" else _LETTERS.get(code, code)

    return _ESCAPE.sub(letter, word)


@pytest.fixture
def witness(site: Site) -> Witness:
    return Witness(site.redis())


def dump(redis: Redis) -> bytes:
    """Every key with its value."""
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
    }
    return b"\n".join(key + repr(readers.get(redis.type(key), redis.exists)(key)).encode() for key in redis.scan_iter(count=1000))


def test_redis_holds_neither_token_nor_private_key(site: Site, witness: Witness) -> None:
    seen = []
    with witness.watching():
        bob = Client(site, "bob")
        stranger = Client(site, "nobody")
        assert stranger.get("/utilities/whoami").headers["X-Permission-Denied"], "a certificate is asked for, and of no use"
        ticket = bob.post(
            "/compute/jobs", files={"file": ("job.sh", b"#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n")}, data={"env": '{"A": "b"}'}
        )
        seen.append(dump(site.redis()))
        assert bob.task(ticket)["status"] == "200"
        seen.append(dump(site.redis()))
    tokens = [str(client.headers["Authorization"]).removeprefix("Bearer ") for client in (bob, stranger)]
    everything = witness.text() + "".join(part.decode(errors="replace") for part in seen)
    assert "compute.SubmitUpload" in everything, "the submission was seen"
    assert "delegation.Certify" in everything, "so was the asking for a certificate"
    decoded = everything + "".join(_unpacked(everything))
    parts = [part for token in tokens for part in token.split(".")[1:]]
    for secret in (*parts, site.facts["clients"]["bob"]["secret"], site.facts["secrets"]["s3_secret_key"]):
        assert secret not in decoded
    for sign in ("PRIVATE KEY", "openssh-key-v1"):
        assert sign not in decoded


def _unpacked(text: str, depth: int = 3) -> Iterator[str]:
    """What is in base64 within a text, and within that."""
    for packed in set(re.findall(r"[A-Za-z0-9+/_-]{40,}", text)) if depth else ():
        inner = urlsafe_b64decode(packed.replace("+", "-").replace("/", "_")[: len(packed) // 4 * 4]).decode(errors="replace")
        yield inner
        yield from _unpacked(inner, depth - 1)


class Forger:
    """Somebody who reads and writes Redis, and alters messages that they have seen."""

    def __init__(self, site: Site, message: dict[str, Any]) -> None:
        self.redis = site.redis()
        self.message = message
        (self.parameters,), self.kwargs, self.embedded = json.loads(b64decode(message["body"]))
        self.operation = str(message["headers"]["task"])
        self._logs = [Path(site.facts["logs"]) / f"worker-{number}.log" for number in (1, 2)]
        self._read = [log.stat().st_size for log in self._logs]
        self._sent: list[str] = []

    def claims(self) -> dict[str, Any]:
        """What the grant states."""
        return dict(jwt.decode(self.kwargs["grant"], options={"verify_signature": False}))

    def swapped(self, **claims: Any) -> str:
        """The grant with other claims under its old signature."""
        head, _, signature = self.kwargs["grant"].split(".")
        body = b64encode(json.dumps(self.claims() | claims).encode(), b"-_").decode().rstrip("=")
        return f"{head}.{body}.{signature}"

    def signed(self, **claims: Any) -> str:
        """The grant with other claims, signed with a key of one's own that is called like the API's."""
        known = jwt.get_unverified_header(self.kwargs["grant"])["kid"]
        return jwt.encode(self.claims() | claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": known})

    def named(self, **claims: Any) -> str:
        """The grant with other claims, signed with a key of one's own that is called by its name."""
        return sign_claims(self.claims() | claims, Ed25519PrivateKey.generate())

    def unsigned(self, **claims: Any) -> str:
        """The grant with other claims and no signature."""
        return jwt.encode(self.claims() | claims, None, algorithm="none")

    def send(
        self,
        *,
        task_id: str = "",
        operation: str = "",
        parameters: dict[str, Any] | None = None,
        grant: str = "",
        refused: bool = True,
        **kwargs: Any,
    ) -> None:
        """Put the message, altered, into the queue of its service."""
        forged = json.loads(json.dumps(self.message))
        task_id, operation = task_id or forged["headers"]["id"], operation or self.operation
        forged["headers"] |= {"id": task_id, "root_id": task_id, "task": operation, "expires": None}
        forged["properties"] |= {"correlation_id": task_id, "delivery_tag": uuid4().hex}
        words = self.kwargs | kwargs | ({"grant": grant} if grant else {})
        forged["body"] = b64encode(json.dumps([[parameters or self.parameters], words, self.embedded]).encode()).decode()
        self._sent += [task_id] if refused else []
        self.redis.lpush(operation.partition(".")[0], json.dumps(forged))

    def refused(self) -> None:
        """Return when the workers have refused, or ignored, all that was sent."""
        refusals = re.compile(r"(?:Task \S+\[|failed, task ')(\w+)(?:\] raised expected|'): Grant|attempt \d+ of task (\w+) is not due")

        def all_refused() -> bool:
            said = "".join(log.read_bytes()[start:].decode(errors="replace") for log, start in zip(self._logs, self._read, strict=True))
            return sorted(self._sent) == sorted("".join(found) for found in refusals.findall(said))

        eventually(all_refused)


@pytest.fixture
def mkdir(site: Site, alice: Client, folder: Folder, witness: Witness) -> Forger:
    """A real message of alice: make a directory."""
    made = f"{folder.path}/made"
    with witness.watching():
        assert alice.post("/utilities/mkdir", data={"targetPath": made}).status_code == 201
    return Forger(site, witness.message("utilities.Mkdir", made))


@pytest.fixture
def submission(site: Site, alice: Client, folder: Folder, witness: Witness) -> Forger:
    """A real message of alice: submit a script that leaves its mark."""
    script = folder.file("job.sh", f"#!/bin/sh\n#SBATCH --output=/dev/null\nid -un >>{folder.path}/mark\n".encode())
    with witness.watching():
        task = alice.task(alice.post("/compute/jobs/path", data={"targetPath": script}))
    assert task["status"] == "200"
    eventually(lambda: Path(folder.path, "mark").exists() and Path(folder.path, "mark").read_text() == "fcalice\n")
    return Forger(site, witness.message("compute.SubmitPath", script))


FORGERIES: dict[str, Callable[[Forger], dict[str, Any]]] = {
    "another user under the old signature": lambda f: {"grant": f.swapped(user="fcbob")},
    "another user under another key": lambda f: {"grant": f.signed(user="fcbob")},
    "another user under no signature": lambda f: {"grant": f.unsigned(user="fcbob")},
    "another user under a key that nobody knows": lambda f: {"grant": f.named(user="fcbob")},
    "the same user under another key": lambda f: {"grant": f.signed()},
    "a longer life under another key": lambda f: {"grant": f.signed(expires=int(time.time()) + 9999)},
    "another life under the old signature": lambda f: {"grant": f.swapped(expires=int(time.time()) + 9999)},
    "another task id": lambda _: {"task_id": uuid4().hex},
    "another system": lambda f: {"grant": f.swapped(system="elsewhere")},
    "no grant": lambda _: {"grant": "nonsense"},
}


def canary(folder: Folder) -> str:
    """A path that nobody has asked for."""
    return f"{folder.path}/canary-{secrets.token_hex(4)}"


def known_jobs(site: Site) -> set[str]:
    """The ids of all jobs that Slurm still knows."""
    return set(site.slurm("squeue", "--noheader", "--states=all", "--format=%i").split())


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forged_call_does_nothing(mkdir: Forger, folder: Folder, case: str) -> None:
    """The message names a directory of its own, its grant is altered to match."""
    path = canary(folder)
    parameters = mkdir.parameters | {"targetPath": path}
    forgery = FORGERIES[case](mkdir)
    if forgery.get("grant", "nonsense") != "nonsense" and "signed" not in case:
        body = jwt.decode(forgery["grant"], options={"verify_signature": False}) | {"parameters": digest(parameters)}
        forgery["grant"] = _with_claims(forgery["grant"], body)
    mkdir.send(parameters=parameters, **forgery)
    mkdir.refused()
    assert not Path(path).exists()


def _with_claims(grant: str, claims: dict[str, Any]) -> str:
    head, _, signature = grant.split(".")
    return f"{head}.{b64encode(json.dumps(claims).encode(), b'-_').decode().rstrip('=')}.{signature}"


@pytest.mark.parametrize(("name", "value"), [("targetPath", None), ("p", "true")])
def test_a_real_grant_is_good_for_just_its_parameters(mkdir: Forger, folder: Folder, name: str, value: str | None) -> None:
    path = canary(folder)
    Path(f"{folder.path}/made").rmdir()
    mkdir.send(parameters=mkdir.parameters | {name: value or path})
    mkdir.refused()
    assert not Path(path).exists()
    assert not Path(f"{folder.path}/made").exists()


def test_a_real_grant_is_good_for_just_its_operation(mkdir: Forger, folder: Folder) -> None:
    path = Path(folder.path, "made")
    mkdir.send(operation="utilities.Rm", parameters={"targetPath": str(path)})
    mkdir.send(operation="utilities.Rm")
    mkdir.refused()
    assert path.is_dir()


def test_what_the_api_signs_is_done_while_its_time_lasts_and_not_after(site: Site, mkdir: Forger, folder: Folder) -> None:
    """The proof that what the other tests put into Redis does reach the workers."""
    key = signing_key(Path(site.facts["keys"]["private"]), "api")
    for expires, done in ((time.time() + 30, True), (time.time() - 1, False)):
        path, task_id = canary(folder), uuid4().hex
        parameters = mkdir.parameters | {"targetPath": path}
        claims = mkdir.claims() | {"task_id": task_id, "parameters": digest(parameters), "expires": int(expires)}
        mkdir.send(task_id=task_id, parameters=parameters, grant=sign_claims(claims, key), refused=not done)
        if done:
            eventually(Path(path).is_dir)
        else:
            mkdir.refused()
            assert not Path(path).exists()


def test_a_real_message_sent_again_while_its_grant_is_good_does_nothing(mkdir: Forger, folder: Folder) -> None:
    made = Path(folder.path, "made")
    made.rmdir()
    for _ in range(8):
        mkdir.send()
    mkdir.refused()
    assert not made.exists()


def test_who_removes_the_marks_too_has_it_done_once_more_by_each_other_process_at_most(site: Site, mkdir: Forger, folder: Folder) -> None:
    """What docs/security.md says of it: as the same user, the same call, and until the grant expires."""
    made, redis, again = Path(folder.path, "made"), site.redis(), 0
    for _ in range(8):
        redis.delete(f"once:call:{mkdir.message['headers']['id']}")
        made.rmdir() if made.exists() else None
        mkdir.send(refused=False)
        eventually(lambda: not redis.llen("utilities"))
        time.sleep(0.5)
        again += made.exists()
    assert again <= 1


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forged_submission_starts_nothing_and_changes_no_record(site: Site, submission: Forger, folder: Folder, case: str) -> None:
    redis = site.redis()
    before = records(redis)
    jobs = known_jobs(site)
    for attempt in (1, 2):
        submission.send(attempt=attempt, **FORGERIES[case](submission))
    submission.send(parameters=submission.parameters | {"targetPath": canary(folder)})
    submission.refused()
    after = records(redis)
    assert {key: after[key] for key in before} == before
    assert known_jobs(site) <= jobs
    assert Path(folder.path, "mark").read_text() == "fcalice\n"


def test_a_real_submission_sent_again_makes_no_second_job(site: Site, submission: Forger, folder: Folder) -> None:
    redis, task = site.redis(), f"task:{submission.message['headers']['id']}"
    before = redis.hgetall(task)
    jobs = known_jobs(site)
    for attempt in (1, 2, 3):
        submission.send(attempt=attempt)
    submission.refused()
    assert redis.hgetall(task) == before
    assert known_jobs(site) <= jobs
    assert Path(folder.path, "mark").read_text() == "fcalice\n"


def test_a_forged_record_lets_nobody_submit_as_another(site: Site, submission: Forger) -> None:
    """Even with a record to match, the worker asks for the API's signature."""
    redis = site.redis()
    task_id = uuid4().hex
    redis.hset(
        f"task:{task_id}",
        mapping=redis.hgetall(f"task:{submission.message['headers']['id']}")
        | {"user": "fcbob", "status": "100", "attempt": 1, "holder": ""},
    )  # type: ignore[arg-type]
    before = redis.hgetall(f"task:{task_id}")
    jobs = known_jobs(site)
    submission.send(task_id=task_id, grant=submission.signed(user="fcbob", task_id=task_id), attempt=1)
    submission.refused()
    assert redis.hgetall(f"task:{task_id}") == before
    assert known_jobs(site) <= jobs
    redis.delete(f"task:{task_id}")


def records(redis: Redis) -> dict[bytes, Any]:
    """Every task record."""
    return {key: redis.hgetall(key) for key in redis.scan_iter("task:*", count=1000)}
