"""Tasks that are done in steps: what a record keeps between them, and what becomes of one that is cancelled or given up."""

import threading
import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis import Redis

from broker.blobs import Blobs
from broker.grants import GrantVerifier
from broker.keys import verifying_key
from broker.links import LinkSealer
from broker.once import Once
from broker.replies import Answers
from broker.tasks import Attempt, Fate, Standing, Tasks
from schemas.errors import CommandFailed, NotCancellable, Stopped
from schemas.grant import Grant
from schemas.operation import digest
from schemas.settings import Settings, Storage
from schemas.task import Status, Task
from schemas.transfers import StageIn
from tests.real_site import eventually
from workers.host import LocalHost
from workers.kept_states import KeptStates
from workers.leases import Leases
from workers.performing import Permit, Rest, Store, Workshop
from workers.shares import Shares
from workers.staging.s3 import S3Staging
from workers.stopping import Stop

MESSAGE = {"operation": "storage.StageIn", "parameters": {}, "shown": "{}", "grant": "g"}


@pytest.fixture
def tasks(redis: Redis) -> Tasks:
    redis.flushdb()
    return Tasks(redis, lifetime=60, patience=0)


def made(tasks: Tasks) -> Task:
    facts = {"user": "ann", "service": "storage", "system": "here", "message": MESSAGE, "steps": True, "lifetime": 1000}
    task = tasks.create(uuid4().hex, **facts)
    tasks.confirm(task.task_id)
    return task


def attempt(task: Task, number: int = 1, holder: str = "me") -> Attempt:
    return Attempt(task.task_id, number, holder)


def rested(tasks: Tasks, *, seconds: float = 0, topic: str = "") -> Task:
    """A task whose first step is over."""
    task = made(tasks)
    assert tasks.accept(attempt(task), lease=60)
    assert tasks.rest(attempt(task), Status.FORM_READY, {"a": 1}, state={"kept": True}, seconds=seconds, topic=topic)
    return task


def test_a_step_that_begins_leaves_the_status_to_whoever_makes_it(tasks: Tasks) -> None:
    task = made(tasks)
    tasks.accept(attempt(task), lease=60)

    assert tasks.find(task.task_id, "ann").status is Status.QUEUED


def test_a_rested_task_is_sent_again_as_the_next_attempt_and_its_state_is_not_shown(tasks: Tasks) -> None:
    task = rested(tasks)

    assert tasks.reclaim(task.task_id, attempts=1) is Fate.RESTED
    assert tasks.message(task.task_id) == (MESSAGE, 2)
    assert not tasks.accept(attempt(task), lease=60)
    assert tasks.accept(attempt(task, 2), lease=60)
    assert tasks.standing(task.task_id) == Standing(Status.FORM_READY, {"kept": True}, cleaning=False)
    assert tasks.find(task.task_id, "ann").data == {"a": 1}


def test_a_task_at_rest_is_left_alone_until_it_is_due(tasks: Tasks) -> None:
    task = rested(tasks, seconds=0.5)

    assert tasks.reclaim(task.task_id, attempts=1) is Fate.HELD
    assert tasks.due() == []
    assert eventually(tasks.due) == [task.task_id]
    assert tasks.reclaim(task.task_id, attempts=1) is Fate.RESTED


def test_rests_are_no_lost_attempts(tasks: Tasks) -> None:
    task = rested(tasks)
    for number in range(2, 10):
        assert tasks.reclaim(task.task_id, attempts=2) is Fate.RESTED
        assert tasks.accept(attempt(task, number), lease=60)
        assert tasks.rest(attempt(task, number), Status.FETCHING, {}, state={}, seconds=0)


def test_a_step_that_is_lost_is_made_again_from_what_was_kept_last(tasks: Tasks) -> None:
    task = rested(tasks)
    tasks.reclaim(task.task_id, attempts=3)
    tasks.accept(attempt(task, 2), lease=0)
    tasks.advance(attempt(task, 2), Status.STAGED_IN, {}, state={"kept": 2})

    assert tasks.reclaim(task.task_id, attempts=3) is Fate.LOST
    assert not tasks.rest(attempt(task, 2), Status.FETCHING, {}, state={}, seconds=0)
    assert tasks.accept(attempt(task, 3), lease=60)
    assert tasks.standing(task.task_id).state == {"kept": 2}


def test_a_rest_does_not_take_a_status_back(tasks: Tasks) -> None:
    task = rested(tasks)
    tasks.reclaim(task.task_id, attempts=3)
    tasks.accept(attempt(task, 2), lease=60)

    assert not tasks.rest(attempt(task, 2), Status.FORM_WAITED, {}, state={}, seconds=0)
    assert not tasks.rest(attempt(task, 2), Status.FETCHED, {}, state={}, seconds=0)


def test_a_task_is_woken_by_what_it_waits_for_and_only_once(tasks: Tasks) -> None:
    task, other = rested(tasks, seconds=60, topic="bucket"), rested(tasks, seconds=60)

    assert tasks.awaited() == ["bucket"]
    assert tasks.waiting("bucket", [other.task_id, task.task_id, "nothing"]) == [task.task_id]
    assert tasks.wake(task.task_id)
    assert not tasks.wake(task.task_id)
    assert not tasks.wake(other.task_id)
    assert tasks.awaited() == []
    assert tasks.reclaim(task.task_id, attempts=1) is Fate.RESTED
    assert tasks.reclaim(other.task_id, attempts=1) is Fate.HELD


def test_nothing_is_waited_for_by_a_task_that_is_due_by_itself_or_cancelled(tasks: Tasks) -> None:
    due, cancelled = rested(tasks, topic="bucket"), rested(tasks, seconds=60, topic="another")

    tasks.reclaim(due.task_id, attempts=1)
    tasks.cancel(cancelled.task_id)
    assert tasks.awaited() == []


def test_a_cancelled_task_is_final_and_cleaned_after_by_the_next_attempt(tasks: Tasks) -> None:
    task = rested(tasks, seconds=60)
    tasks.cancel(task.task_id)

    assert tasks.find(task.task_id, "ann").status is Status.ERROR
    with pytest.raises(NotCancellable):
        tasks.cancel(task.task_id)
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.RESTED
    assert tasks.message(task.task_id) == (MESSAGE, 3)
    assert tasks.accept(attempt(task, 3), lease=60)
    assert tasks.standing(task.task_id) == Standing(Status.ERROR, {"kept": True}, cleaning=True)
    assert tasks.advance(attempt(task, 3), Status.FETCHED, "ignored")
    found = tasks.find(task.task_id, "ann")
    assert (found.status, found.data) == (Status.ERROR, "Deleted on request")
    assert tasks.message(task.task_id) is None
    assert tasks.due() == []


def test_cleaning_may_take_several_steps(tasks: Tasks) -> None:
    task = rested(tasks)
    tasks.cancel(task.task_id)
    tasks.reclaim(task.task_id, attempts=3)
    tasks.accept(attempt(task, 3), lease=60)

    assert tasks.rest(attempt(task, 3), Status.FETCHING, "ignored", state={"pause": 2}, seconds=0)
    assert tasks.find(task.task_id, "ann").data == "Deleted on request"
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.RESTED
    assert tasks.standing(task.task_id) == Standing(Status.ERROR, {"pause": 2}, cleaning=True)


def cancelled_amid_a_step(tasks: Tasks, *, lease: float) -> Task:
    task = rested(tasks)
    tasks.reclaim(task.task_id, attempts=3)
    tasks.accept(attempt(task, 2), lease=lease)
    tasks.cancel(task.task_id)
    return task


def test_a_cancelled_task_is_cleaned_after_once_the_step_under_way_is_over(tasks: Tasks) -> None:
    task = cancelled_amid_a_step(tasks, lease=60)

    assert not tasks.renew(attempt(task, 2), lease=60)
    assert not tasks.rest(attempt(task, 2), Status.FETCHING, {}, state={}, seconds=0)
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.HELD
    assert not tasks.leave(attempt(task, 2, "another"))
    assert tasks.due() == []
    assert tasks.leave(attempt(task, 2))
    assert tasks.due() == [task.task_id]
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.RESTED


def test_a_cancelled_task_is_cleaned_after_once_the_lease_of_a_lost_step_has_lapsed(tasks: Tasks) -> None:
    task = cancelled_amid_a_step(tasks, lease=0.3)

    assert tasks.reclaim(task.task_id, attempts=3) is Fate.HELD
    assert eventually(tasks.due) == [task.task_id]
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.RESTED
    assert not tasks.leave(attempt(task, 2))


def test_a_step_that_was_not_cancelled_leaves_its_task_alone(tasks: Tasks) -> None:
    task = rested(tasks, seconds=60)

    assert not tasks.leave(attempt(task))
    assert tasks.due() == []


@pytest.mark.parametrize(("graceful", "lease"), [(False, 60), (True, 2)])
def test_what_runs_is_told_to_stop_when_the_lease_is_lost_or_gracefully_when_it_has_lapsed(
    tasks: Tasks, *, graceful: bool, lease: float
) -> None:
    task = rested(tasks)
    tasks.reclaim(task.task_id, attempts=3)
    tasks.accept(attempt(task, 2), lease=lease)
    ended = threading.Event()

    with Leases(tasks, lease).held(attempt(task, 2), time.monotonic(), graceful=graceful) as stop, suppress(Stopped), stop.ends(ended.set):
        tasks.cancel(task.task_id)
        assert ended.wait(20)
        lapsed = time.monotonic() >= stop.lapses
    assert lapsed is graceful


def test_a_task_cancelled_before_its_first_step_leaves_nothing_to_clean(tasks: Tasks) -> None:
    task = made(tasks)
    tasks.cancel(task.task_id)

    assert tasks.message(task.task_id) is None
    assert tasks.due() == []


def test_a_task_given_up_is_final_and_cleaned_after_and_if_that_fails_too_it_is_left(tasks: Tasks) -> None:
    task = made(tasks)
    tasks.accept(attempt(task), lease=0)
    tasks.failing(task.task_id, "Internal error")

    assert tasks.reclaim(task.task_id, attempts=1) is Fate.ABANDONED
    found = tasks.find(task.task_id, "ann")
    assert (found.status, found.data) == (Status.ERROR, "Internal error")
    assert tasks.reclaim(task.task_id, attempts=1) is Fate.RESTED
    assert tasks.accept(attempt(task, 2), lease=0)
    assert tasks.standing(task.task_id).cleaning
    assert tasks.reclaim(task.task_id, attempts=1) is Fate.ABANDONED
    assert tasks.due() == []


def test_a_record_outlives_the_rest_and_is_listed_as_long(tasks: Tasks, redis: Redis) -> None:
    task = rested(tasks, seconds=500)
    assert redis.ttl(f"task:{task.task_id}") > 1400
    assert redis.ttl("tasks:of:ann") > 1400
    tasks.create(uuid4().hex, user="ann", service="compute", system="here", message=MESSAGE)
    assert redis.ttl("tasks:of:ann") > 1400


def test_what_is_staged_is_needed_by_open_tasks_and_by_downloads(tasks: Tasks) -> None:
    waiting, ended, download = rested(tasks, seconds=60), made(tasks), made(tasks)
    for task, status in ((ended, Status.FETCHED), (download, Status.STAGED_OUT)):
        tasks.accept(attempt(task), lease=60)
        tasks.advance(attempt(task), status, {})

    assert tasks.gone({waiting.task_id, ended.task_id, download.task_id, "nothing"}) == {ended.task_id, "nothing"}


@pytest.fixture
def workshop(settings: Settings, redis: Redis, tasks: Tasks) -> Workshop:
    """One whose object store does not answer."""
    nowhere = "http://127.0.0.1:9"
    storage = Storage(private_url=nowhere, public_url=nowhere, access_key="a", secret_key="s")
    return Workshop(
        tasks=tasks,
        blobs=Blobs(redis),
        answers=Answers(redis),
        leases=Leases(tasks, 60),
        verifier=GrantVerifier(verifying_key(settings.keys.public, "api")),
        limits=settings.limits,
        find_system=settings.system,
        open_host=lambda *_: LocalHost(),
        shares=Shares(8),
        states=KeptStates(Ed25519PrivateKey.generate()),
        once=Once(redis, "call"),
        store=Store(storage, S3Staging(storage), LinkSealer.of(settings.keys)),
    )


@pytest.mark.parametrize("signed", [True, False])
def test_a_step_goes_on_only_from_what_a_worker_has_signed(settings: Settings, workshop: Workshop, *, signed: bool) -> None:
    task, state = made(workshop.tasks), {"path": "/home/ann/.ssh/authorized_keys", "running": True, "begun": 1, "size": 7}
    kept: dict[str, Any] = workshop.states.signed(task.task_id, state) if signed else {"state": state}
    workshop.tasks.accept(attempt(task), lease=60)
    workshop.tasks.advance(attempt(task), Status.FETCHING, {}, state=kept)
    op = StageIn(target_path="/tmp", source_path="file")
    who = {"task_id": task.task_id, "user": "ann", "system": "here", "operation": op.task(), "parameters": digest(op.parameters())}
    system = settings.system("here")
    assert system
    permit = Permit(Grant(**who, accepted=0, expires=2**40, seal=""), "", system)

    def step() -> Any:
        return workshop.step(StageIn, op.parameters(), permit, attempt(task), Stop())

    if signed:
        assert isinstance(step(), Rest)
    else:
        with pytest.raises(CommandFailed, match="changed"):
            step()
