"""Each part is a user of Redis that may do what it must, and nothing else; what the tests before did was never refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, ResponseError

from broker.configuration import open_redis, settings_in
from broker.redis_users import ADMIN, RULES, USERS, password_file
from tests.real_site import Client, Site

Login = Callable[[str], Redis]
PARTS = tuple(RULES)


@pytest.fixture(scope="module")
def log(site: Site) -> list[dict[str, Any]]:
    """What Redis has refused before this module asks for it."""
    return list(site.redis().acl_log(1000))


@pytest.fixture
def login(site: Site, log: list[dict[str, Any]]) -> Iterator[Login]:
    """Redis as one of its users sees it; what is refused to them is no part of the log that a later run sees."""
    opened: list[Redis] = []

    def open_as(user: str) -> Redis:
        opened.append(open_redis(settings_in(Path(site.facts["settings"]), user)))
        return opened[-1]

    yield open_as
    for client in opened:
        client.close()
    site.redis().acl_log_reset()


def test_nothing_that_the_service_did_was_refused(alice: Client, log: list[dict[str, Any]]) -> None:
    """Run alone it sees what the start of the site and this call need, after other tests all that those do."""
    assert alice.get("/utilities/ls", params={"targetPath": "/home"}).status_code == 200
    assert log == []
    assert alice.site.redis().acl_log(1000) == []


def test_nobody_gets_in_without_a_password(site: Site) -> None:
    place = site.facts["urls"]["redis"].partition("@")[2]
    for url in (f"redis://{place}", f"redis://:{site.facts['secrets']['redis']}@{place}", f"redis://api:wrong@{place}"):
        with Redis.from_url(url) as client, pytest.raises(AuthenticationError):
            client.ping()


def test_the_acl_file_holds_no_password(site: Site) -> None:
    folder, acl = Path(site.facts["keys"]["redis"]), (Path(site.facts["state"]) / "etc" / "users.acl").read_text()
    passwords = [password_file(folder, user).read_text() for user in USERS]
    assert len({*passwords}) == len(USERS)
    assert not [password for password in passwords if password in acl]


FORBIDDEN: dict[str, tuple[tuple[str, ...], Callable[[Redis], object]]] = {
    "read the delegation's queue": (("api", "worker", "beat", "flower", "probe"), lambda r: r.lrange("delegation", 0, -1)),
    "take from the delegation's queue": (("api", "worker", "beat", "flower", "probe"), lambda r: r.rpop("delegation")),
    "send to the delegation": (("api", "beat", "flower", "probe"), lambda r: r.lpush("delegation", "x")),
    "take from a service's queue": (("api", "delegation", "beat", "flower", "probe"), lambda r: r.rpop("utilities")),
    "read a service's queue": (("api", "delegation", "beat", "flower", "probe"), lambda r: r.lrange("utilities", 0, -1)),
    "send to a service": (("delegation", "beat", "flower", "probe"), lambda r: r.lpush("utilities", "x")),
    "send to housekeeping": (("api", "delegation", "flower", "probe"), lambda r: r.lpush("beat", "x")),
    "change a task": (("delegation", "beat", "flower", "probe"), lambda r: r.hset("task:x", "status", "200")),
    "read a task": (("delegation", "beat", "flower", "probe"), lambda r: r.hgetall("task:x")),
    "read a file": (("delegation", "beat", "flower", "probe"), lambda r: r.hgetall("blob:x")),
    "change the schedule": (("api", "worker", "delegation", "flower", "probe"), lambda r: r.hset("redbeat:sweep", "definition", "{}")),
    "change what probes found": (("api", "delegation", "beat", "flower", "probe"), lambda r: r.hset("health:beat.ProbeSystem", "x", "{}")),
    "hear answers": (("delegation", "beat", "flower", "probe"), lambda r: _subscribed(r, "replies:x")),
    "answer": (("api", "beat", "flower", "probe"), lambda r: r.publish("replies:x", "{}")),
    "hear that a task has ended": (("worker", "delegation", "beat", "flower", "probe"), lambda r: _subscribed(r, "settled:x")),
    "say that a task has ended": (("delegation", "beat", "flower", "probe"), lambda r: r.publish("settled:x", "x")),
    "forget how often somebody called": (("worker", "delegation", "beat", "flower", "probe"), lambda r: r.delete("limits:rate:x")),
    "forget that a petition was made": (("api", "worker", "beat", "flower", "probe"), lambda r: r.set("once:petition:x", "1")),
    "command workers": (("api", "worker", "delegation", "beat", "flower"), lambda r: r.publish("/0.celery.pidbox", "{}")),
    "make up events": (("api", "beat", "flower", "probe"), lambda r: r.publish("/0.celeryev/task.succeeded", "{}")),
    "list keys": (PARTS, lambda r: r.keys("*")),
    "scan keys": (PARTS, lambda r: r.scan()),
    "watch others": (PARTS, lambda r: r.execute_command("MONITOR")),
    "empty Redis": (PARTS, lambda r: r.flushall()),
    "configure Redis": (PARTS, lambda r: r.config_get("*")),
    "see users": (PARTS, lambda r: r.acl_list()),
    "see clients": (PARTS, lambda r: r.client_list()),
    "cut off others": (PARTS, lambda r: r.client_kill_filter(_type="normal")),
    "use a key of nobody's": (PARTS, lambda r: r.set("anything", "x")),
    "reach a key that a script did not declare": (PARTS, lambda r: r.eval("return redis.call('GET', 'anything')", 0)),
}


def _subscribed(redis: Redis, channel: str) -> object:
    with redis.pubsub() as subscription:
        subscription.subscribe(channel)
        return subscription.get_message(timeout=5)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_who_must_not_cannot(login: Login, what: str) -> None:
    users, attempt = FORBIDDEN[what]
    for user in users:
        with pytest.raises(ResponseError, match=r"permission|can't run this command|can't access"):
            attempt(login(user))


def test_what_is_forbidden_is_possible(site: Site) -> None:
    """The attempts are made in words that Redis understands: its administrator may do those that do no harm."""
    redis = site.redis()
    harmless = ("read the delegation's queue", "read a task", "hear answers", "hear that a task has ended", "list keys", "scan keys")
    for what in (*harmless, "see users", "see clients"):
        FORBIDDEN[what][1](redis)


def test_a_user_may_work_with_its_own_keys(login: Login) -> None:
    """The proof that a refusal above is one of this key or command, not of everything."""
    key = f"blob:{uuid4().hex}"
    for user in ("api", "worker"):
        client = login(user)
        client.hset(key, "0", "x")
        client.unlink(key)
        client.publish(f"settled:{key}", "x")
    assert login("probe").ping()
    assert login("flower").llen("delegation") >= 0
    assert login("probe").exists("redbeat::lock")


def test_every_user_but_the_administrator_has_rules(site: Site) -> None:
    listed = {str(line).split()[1] for line in site.redis().acl_list()}
    assert listed == {"default", *USERS}
    assert set(USERS) - set(PARTS) == {ADMIN}
