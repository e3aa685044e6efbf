"""Who may do what in Redis: `python -m broker.redis_users ACL_FILE PASSWORDS` writes its ACL file, and the passwords that are missing.

A rule is a selector of Redis 7 (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/): commands, and the keys
(`~` both ways, `%R~` read, `%W~` write) or channels (`&`) that they may be used on. One rule must allow all of a command. Whoever needs a
new key adds a rule to the users that use it; the commands of a Lua script are checked one by one, its KEYS as read and written.
"""

import argparse
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from broker.celery import HOUSEKEEPING, SERVICES

ADMIN: Final = "admin"
_DELEGATION: Final = "delegation"
_SCRIPT: Final = "+evalsha +eval"
_CONNECTION: Final = (
    "+ping",
    "+echo",
    "+select",
    "+multi",
    "+exec",
    "+discard",
    "+unwatch",
    "+time",
    "+script|load +script|exists",
    # about one's own connection; `client|setinfo`, which redis-py sends, is not known to Redis 7.0, whose ACL could not name it
    "+client -client|kill -client|list -client|no-evict -client|pause -client|unpause -client|unblock",
)


def _keys(*queues: str, access: str = "") -> str:
    return " ".join(f"{access}~{queue}" for queue in queues)


def _bindings(exchange: str) -> str:
    """How kombu notes which queues an exchange leads to."""
    keys = f"~_kombu.binding.{exchange} ~_kombu.binding_permanent.{exchange} ~_kombu.binding_deadlines"
    return f"+sadd +srem +smembers +zadd +zrangebyscore +zrem +exists +del {_SCRIPT} {keys}"


def _sends(*queues: str) -> tuple[str, ...]:
    """Puts messages into queues, and sees how long they are."""
    return f"+lpush +llen +exists {_keys(*queues, access='%W')}", *(_bindings(queue) for queue in queues)


def _consumes(*queues: str) -> tuple[str, ...]:
    """Takes messages out of queues, until its bell rings."""
    return (
        f"+brpop {_keys(*queues)} ~bell:*",
        "+lpush +expire ~bell:*",
        f"+lpush +llen +exists {_keys(*queues)}",
        *(_bindings(queue) for queue in queues),
        # Celery's remote control, of which the worker's side is to listen and to answer, and its events
        _bindings("celery.pidbox"),
        _bindings("reply.celery.pidbox"),
        "+subscribe +psubscribe +unsubscribe +punsubscribe &/{db}.celery.pidbox",
        f"+llen +exists +del {_keys('*.celery.pidbox', access='%W')}",
        f"+lpush {_keys('*.reply.celery.pidbox', access='%W')}",
        "+publish &/{db}.celeryev/*",
        _bindings("celeryev"),
    )


_TASKS: Final = (
    f"+hget +hmget +hgetall +hset +hdel +hincrby +exists +del +expire +ttl +zadd +zrem +zrangebyscore +zrevrangebyscore +zremrangebyscore "
    f"+sadd +srem +smismember +smembers +hlen +hexists {_SCRIPT} ~task:* ~limits:tasks:* ~tasks:of:* ~tasks:open ~awaited ~awaited:*"
)
_LISTENS: Final = "+subscribe +unsubscribe &replies:*"
# whoever ends a task tells those who wait for it
_TELLS: Final = "+publish &settled:*"
_BLOBS: Final = "+hset +hget +hdel +expire +unlink ~blob:*"

RULES: Final = MappingProxyType(
    {
        "api": (
            *_sends(*SERVICES),
            f"{_LISTENS} &settled:*",
            _BLOBS,
            _TASKS,
            _TELLS,
            f"+hmget +hset +pexpire +zadd +zcard +zrem +zremrangebyscore {_SCRIPT} ~limits:rate:* ~limits:calls:*",
            "+hgetall +hget %R~passed %R~health:*",
            "+set +del +exists +incrby ~health:announcements ~health:announcements:doubts",
        ),
        "worker": (
            *_consumes(*SERVICES, HOUSEKEEPING),
            *_sends(_DELEGATION),
            _LISTENS,
            _BLOBS,
            f"{_TASKS} ~passed",
            _TELLS,
            "+hgetall ~passed",
            "+set +del ~asked:*",
            "+set +get +pexpire ~ticker:*",
            f"+set ~once:call:* +publish &replies:* {_SCRIPT}",
            "+hset +hgetall +set +del +exists +incrby +mget ~health:*",
        ),
        _DELEGATION: (
            *_consumes(_DELEGATION),
            "+publish &replies:*",
            "+hset +hdel +expire +unlink %W~blob:*",
            f"+hget +hset {_SCRIPT} ~passed",
            "+del ~asked:delegation",
            "+set ~once:petition:*",
        ),
        "beat": (
            *_sends(HOUSEKEEPING),
            f"+hget +hset +hsetnx +hgetall +del +exists {_SCRIPT} ~redbeat:*",
            f"+zadd +zrem +zrangebyscore +zscore +sadd +srem +smembers +set +get +expire +pexpire +pttl {_SCRIPT} ~redbeat:*",
        ),
        # shows events and the lengths of queues
        "flower": (
            "+subscribe +psubscribe +unsubscribe +punsubscribe &/{db}.celeryev/*",
            _bindings("celeryev"),
            f"+llen {_keys(*SERVICES, _DELEGATION, HOUSEKEEPING, access='%R')}",
            f"+llen +exists +del {_keys('celeryev.*', access='%W')}",
        ),
        # health checks: pings workers, and sees whether some beat holds the lock
        "probe": (
            "+publish &/{db}.celery.pidbox",
            _bindings("celery.pidbox"),
            _bindings("reply.celery.pidbox"),
            f"+brpop +llen +exists +del {_keys('*.reply.celery.pidbox')}",
            "+exists %R~redbeat::lock",
        ),
    }
)
USERS: Final = (*RULES, ADMIN)


def main(acl: Path, passwords: Path, databases: Iterable[int] = (0,)) -> None:
    """Write the ACL file, unless it says the same already; a password is kept if it is there."""
    passwords.mkdir(mode=0o700, parents=True, exist_ok=True)
    for user in USERS:
        if not (path := password_file(passwords, user)).exists():
            write_private(path, secrets.token_hex(32))
    known = {user: password_file(passwords, user).read_text(encoding="utf-8").strip() for user in USERS}
    text = acl_text(known, databases)
    if not acl.exists() or acl.read_text(encoding="utf-8") != text:
        write_private(acl, text)


def password_file(folder: Path, user: str) -> Path:
    """Where the password of a user is."""
    return folder / f"{user}.password"


def acl_text(passwords: dict[str, str], databases: Iterable[int] = (0,)) -> str:
    """The ACL file for users with these passwords, of which it holds only hashes; nobody else gets in.

    A gateway is in one of the databases, which their URLs name.
    """
    # not "-@all": Redis 7.0 reads the transactions in its append-only file as this user, and would drop them
    lines = ["user default off resetpass ~* &* +@all"]
    for user, password in passwords.items():
        known = f"user {user} on sanitize-payload #{hashlib.sha256(password.encode()).hexdigest()} resetkeys resetchannels -@all"
        rules = ("~* &* +@all",) if user == ADMIN else (*_CONNECTION, *(f"({_expanded(rule, databases)})" for rule in RULES[user]))
        lines.append(" ".join((known, *rules)))
    return "\n".join(lines) + "\n"


def _expanded(rule: str, databases: Iterable[int]) -> str:
    """The rule with every channel of kombu's in each database: subscribing to a pattern needs just that pattern."""
    return " ".join(word.format(db=db) for word in rule.split() for db in (databases if "{db}" in word else (0,)))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all at once."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m broker.redis_users", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("acl", type=Path, help="the file to write, for Redis' `aclfile`")
    parser.add_argument("passwords", type=Path, help="folder of <user>.password files")
    parser.add_argument("databases", type=int, nargs="*", default=[0], help="numbers of the databases that gateways are in (default: 0)")
    options = parser.parse_args()
    main(options.acl, options.passwords, options.databases)
