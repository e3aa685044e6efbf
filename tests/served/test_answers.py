"""Letters that leave together, and answers that are given once."""

import json
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError, ResponseError  # noqa: A004 (redis' own)
from redis.retry import Retry

from broker.once import Once
from broker.outbox import Lost, Outbox
from broker.own_connections import OwnConnection
from broker.replies import Answers, Replies
from schemas.errors import TimedOut, UnknownResource
from tests.real_site import eventually


@pytest.fixture
def replies(redis: Redis) -> Iterator[Replies]:
    heard = Replies(redis)
    yield heard
    heard.close()


def test_letters_of_many_threads_arrive_once_each_and_in_their_order(redis: Redis) -> None:
    queue, lost = uuid4().hex, []
    outbox = Outbox(OwnConnection(redis))

    def write(who: int) -> None:
        for number in range(200):
            outbox.put(queue, f"{who} {number}", lost.append)

    writers = [threading.Thread(target=write, args=(who,)) for who in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    eventually(lambda: redis.llen(queue) == 1600)

    arrived = [text.decode().split() for text in reversed(redis.lrange(queue, 0, -1))]
    assert lost == []
    for who in range(8):
        assert [int(number) for name, number in arrived if int(name) == who] == list(range(200))


def test_who_waits_is_told_that_a_letter_could_not_be_put(redis: Redis, replies: Replies) -> None:
    queue, outbox = uuid4().hex, Outbox(OwnConnection(redis))
    redis.set(queue, "no list")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        replies.ask("a-call", lambda lost: outbox.put(queue, "a letter", lost), seconds=30)


def test_a_command_is_sent_again_when_its_connection_was_cut(redis: Redis) -> None:
    own, key = OwnConnection(redis), uuid4().hex
    number = own.command("CLIENT", "ID")
    redis.client_kill_filter(_id=number)

    assert own.command("SET", key, "there") == b"OK"
    assert own.command("CLIENT", "ID") != number


def test_a_command_that_takes_too_long_is_given_up_and_the_next_is_answered(redis_url: str) -> None:
    with Redis.from_url(redis_url, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as impatient:
        own, began = OwnConnection(impatient), time.monotonic()
        assert own.command("PING") == b"PONG"

        with pytest.raises(RedisError):
            own.command("BLPOP", uuid4().hex, 20)
        assert time.monotonic() - began < 10
        assert own.command("PING") == b"PONG"


def test_an_answer_is_given_by_whoever_claimed_it_first_and_to_nobody_twice(redis: Redis, replies: Replies) -> None:
    call, answers = uuid4().hex, Answers(redis)
    first, second = (Once(redis, "call").claim(call, seconds=20) for _ in range(2))
    given: list[bool] = []

    def post(_: Lost) -> None:
        given.append(answers.succeed(replies.channel, call, b'{"first": true}', first))
        given.append(answers.succeed(replies.channel, call, b'{"second": true}', second))
        given.append(answers.fail(replies.channel, call, UnknownResource("no"), second))

    assert json.loads(replies.ask(call, post, seconds=30)) == {"first": True}  # type: ignore[arg-type]
    assert given == [True, False, False]


def test_an_answer_whose_claim_is_somebody_elses_is_not_heard(redis: Redis, replies: Replies) -> None:
    call, answers = uuid4().hex, Answers(redis)
    assert Once(redis, "call").first(call, seconds=20)
    claim = Once(redis, "call").claim(call, seconds=20)
    given: list[bool] = []

    with pytest.raises(TimedOut):
        replies.ask(call, lambda _: given.append(answers.succeed(replies.channel, call, b"1", claim)), seconds=0.5)
    assert given == [False]


def test_one_process_claims_a_call_once() -> None:
    once = Once(None, "call")

    assert once.claim("one", seconds=20)
    assert once.claim("one", seconds=20) is None


def test_the_script_is_told_to_a_redis_that_does_not_know_it(redis: Redis, replies: Replies) -> None:
    call, answers = uuid4().hex, Answers(redis)
    claim = Once(redis, "call").claim(call, seconds=20)
    given: list[bool] = []
    redis.script_flush()

    assert replies.ask(call, lambda _: given.append(answers.succeed(replies.channel, call, b'"said"', claim)), seconds=30) == b'"said"'


def test_what_could_not_be_connected_to_is_an_error_of_redis(redis: Redis) -> None:
    with pytest.raises(ConnectionError):
        OwnConnection(Redis(port=1))
