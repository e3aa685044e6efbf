"""Letters are sent at once, however busy the process is with its greenlets."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery

from broker.post import Post
from tests.conftest import ROOT

_BUSY = """
from gevent import monkey
monkey.patch_all()
import time
import gevent
from broker.outbox import Outbox

class Own:
    def command(self, *words):
        sent.append((words, done[0]))

def call(number):
    if number == 1:
        outbox.put("a queue", "a letter", print)
    end = time.monotonic() + 0.002
    while time.monotonic() < end:
        pass
    done[0] += 1

sent, done, outbox = [], [0], Outbox(Own())
outbox.put("a queue", "the first", print)
gevent.sleep(0.1)
gevent.joinall([gevent.spawn(call, number) for number in range(1000)])
gevent.sleep(0.1)
assert [words for words, _ in sent] == [("LPUSH", "a queue", "the first"), ("LPUSH", "a queue", "a letter")], sent
print(sent[1][1])
"""


def test_a_letter_does_not_wait_for_all_greenlets_that_are_ready() -> None:
    told = subprocess.run([sys.executable, "-c", _BUSY], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    assert int(told) < 300


def test_many_that_come_first_open_the_way_to_the_broker_once(monkeypatch: pytest.MonkeyPatch) -> None:
    post, made = Celery("tests", amqp=Post, set_as_current=False).amqp, []

    def connect() -> object:
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    monkeypatch.setattr(post, "_connect", connect)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: post.open(), range(8)))
    assert found == made * 8
