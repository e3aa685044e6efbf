"""Task records: what a step may change, and who may see it."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from redis import Redis

from broker.tasks import Attempt, Fate, Tasks
from schemas.errors import FirecrestError, ForeignTask, NotCancellable, UnknownResource
from schemas.task import Status, Task
from tests.real_site import eventually

MESSAGE = {"operation": "compute.Jobs", "parameters": {}, "shown": "{}", "grant": "g"}


@pytest.fixture
def tasks(redis: Redis) -> Tasks:
    redis.flushdb()
    return Tasks(redis, lifetime=60, patience=0)


def made(tasks: Tasks, user: str = "ann", *, confirmed: bool = True, **facts) -> Task:
    task = tasks.create(uuid4().hex, **{"user": user, "service": "compute", "system": "here", "message": MESSAGE, **facts})
    if confirmed:
        tasks.confirm(task.task_id)
    return task


def attempt(task: Task, number: int = 1, holder: str = "me") -> Attempt:
    return Attempt(task.task_id, number, holder)


def test_a_new_task_is_queued_and_says_so(tasks: Tasks) -> None:
    task = made(tasks)

    assert tasks.find(task.task_id, "ann") == task
    assert (task.status, task.data, task.shown()["description"]) == (Status.QUEUED, "Queued", "Queued")


def test_a_task_is_its_owners_alone(tasks: Tasks) -> None:
    task = made(tasks, "ann")

    with pytest.raises(ForeignTask):
        tasks.find(task.task_id, "bob")
    with pytest.raises(UnknownResource, match="Task nothing does not exist"):
        tasks.find("nothing", "ann")
    assert tasks.of("bob", [task.task_id]) == []
    assert tasks.of("bob") == []


def test_a_users_tasks_come_newest_first(tasks: Tasks) -> None:
    made_in_order = [made(tasks).task_id for _ in range(3)]

    assert [task.task_id for task in tasks.of("ann")] == made_in_order[::-1]
    assert [task.task_id for task in tasks.of("ann", [made_in_order[1], "nothing"])] == [made_in_order[1]]


def test_only_one_holder_has_a_task_at_a_time(tasks: Tasks) -> None:
    task = made(tasks)

    assert tasks.accept(attempt(task), lease=60)
    assert not tasks.accept(attempt(task, holder="another"), lease=60)
    assert not tasks.advance(attempt(task, holder="another"), Status.SUCCESS, "stolen")
    assert tasks.advance(attempt(task), Status.SUCCESS, "done")
    assert tasks.find(task.task_id, "ann").data == "done"


def test_a_status_never_goes_backwards_and_a_final_one_never_changes(tasks: Tasks) -> None:
    task = made(tasks)
    tasks.accept(attempt(task), lease=60)
    tasks.advance(attempt(task), Status.FETCHING)

    assert not tasks.advance(attempt(task), Status.FORM_READY)
    assert tasks.advance(attempt(task), Status.FETCHED)
    assert not tasks.advance(attempt(task), Status.ERROR)
    assert not tasks.accept(attempt(task), lease=60)
    assert tasks.find(task.task_id, "ann").status is Status.FETCHED


def test_a_lapsed_lease_makes_the_next_attempt_and_shuts_the_former_out(tasks: Tasks) -> None:
    task = made(tasks)
    tasks.accept(attempt(task), lease=0)

    assert tasks.reclaim(task.task_id, attempts=3) is Fate.LOST
    assert not tasks.renew(attempt(task), lease=60)
    assert not tasks.advance(attempt(task), Status.SUCCESS, "too late")
    assert not tasks.accept(attempt(task), lease=60)
    assert tasks.message(task.task_id) == (MESSAGE, 2)
    assert tasks.accept(attempt(task, 2), lease=60)
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.HELD


def test_a_task_that_waits_in_its_queue_is_not_lost_until_the_queue_has_passed_it(tasks: Tasks) -> None:
    before = tasks.ask("compute")
    task = made(tasks)
    assert tasks.ask("compute") is None
    tasks.passed("compute", before)

    assert tasks.reclaim(task.task_id, attempts=3) is Fate.WAITING
    tasks.passed("compute", tasks.ask("compute"))
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.LOST
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.WAITING


def test_a_task_whose_sending_was_never_confirmed_is_forgotten(tasks: Tasks) -> None:
    task = made(tasks, confirmed=False)

    assert tasks.reclaim(task.task_id, attempts=3) is Fate.WAITING
    tasks.passed("compute", tasks.ask("compute"))
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.UNCONFIRMED
    assert tasks.of("ann") == []
    assert not tasks.confirm(task.task_id)


def test_a_task_that_somebody_has_taken_is_not_discarded(tasks: Tasks) -> None:
    task = made(tasks, confirmed=False)
    tasks.accept(attempt(task), lease=60)

    assert not tasks.discard(task.task_id, "ann")
    assert tasks.of("ann") == [tasks.find(task.task_id, "ann")]


def test_taking_a_task_twice_is_taking_it_once(tasks: Tasks) -> None:
    task = made(tasks)

    assert tasks.accept(attempt(task), lease=60)
    assert tasks.accept(attempt(task), lease=60)


def test_a_task_that_nobody_ever_took_is_never_given_up(tasks: Tasks) -> None:
    task = made(tasks)

    for _ in range(5):
        tasks.passed("compute", tasks.ask("compute"))
        assert tasks.reclaim(task.task_id, attempts=3) is Fate.LOST


def test_a_task_that_is_given_up_says_why_it_could_not_be_done(tasks: Tasks) -> None:
    task = made(tasks)
    tasks.accept(attempt(task), lease=0)
    tasks.failing(task.task_id, "Machine is not available")

    assert tasks.reclaim(task.task_id, attempts=1) is Fate.ABANDONED
    assert tasks.find(task.task_id, "ann").data == "Machine is not available"


def test_a_task_that_is_lost_too_often_ends_with_an_error_that_says_so(tasks: Tasks) -> None:
    task = made(tasks)
    for number in (1, 2):
        tasks.accept(attempt(task, number), lease=0)
        assert tasks.reclaim(task.task_id, attempts=3) is Fate.LOST
    tasks.accept(attempt(task, 3), lease=0)

    assert tasks.reclaim(task.task_id, attempts=3) is Fate.ABANDONED
    ended = tasks.find(task.task_id, "ann")
    assert (ended.status, ended.data) == (Status.ERROR, "The task was tried 3 times and has been given up")
    assert tasks.due() == []


def test_what_is_final_is_never_due(tasks: Tasks) -> None:
    task = made(tasks)
    assert eventually(tasks.due) == [task.task_id]
    tasks.accept(attempt(task), lease=0)
    tasks.advance(attempt(task), Status.SUCCESS)

    assert tasks.due() == []
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.GONE


def test_an_expired_record_leaves_the_list(tasks: Tasks, redis: Redis) -> None:
    task = made(tasks)
    redis.delete(f"task:{task.task_id}")

    assert tasks.of("ann") == []
    assert redis.zcard("tasks:of:ann") == 0


def test_a_task_that_has_not_started_is_cancelled_for_good(tasks: Tasks) -> None:
    task = made(tasks, stoppable=False)
    tasks.cancel(task.task_id)

    ended = tasks.find(task.task_id, "ann")
    assert (ended.status, ended.data) == (Status.ERROR, "Deleted on request")
    assert ended.updated_at > task.updated_at
    assert not tasks.accept(attempt(task), lease=60)
    assert not tasks.advance(attempt(task), Status.SUCCESS)
    assert tasks.message(task.task_id) is None
    assert tasks.due() == []
    assert tasks.reclaim(task.task_id, attempts=3) is Fate.GONE
    assert tasks.confirm(task.task_id), "its message may be on its way still"
    assert not tasks.discard(task.task_id, "ann"), "and may not get there"
    tasks.failing(task.task_id, "why")
    assert tasks.find(task.task_id, "ann") == ended


def test_what_works_on_a_cancelled_task_has_lost_it(tasks: Tasks) -> None:
    task = made(tasks)
    tasks.accept(attempt(task), lease=60)
    tasks.cancel(task.task_id)

    assert not tasks.renew(attempt(task), lease=60)
    assert not tasks.advance(attempt(task), Status.SUCCESS, "done")
    assert tasks.find(task.task_id, "ann").data == "Deleted on request"


def test_a_task_that_cannot_be_stopped_is_not_cancelled_once_somebody_took_it(tasks: Tasks) -> None:
    task = made(tasks, stoppable=False)
    tasks.accept(attempt(task), lease=0)
    for _ in range(2):
        with pytest.raises(NotCancellable, match=f"Task {task.task_id} has started and cannot be stopped"):
            tasks.cancel(task.task_id)
        tasks.reclaim(task.task_id, attempts=3)

    assert tasks.find(task.task_id, "ann").status is Status.PROGRESS
    assert tasks.accept(attempt(task, 2), lease=60), "the next attempt goes on"


def test_what_is_over_or_gone_is_not_cancelled(tasks: Tasks) -> None:
    task = made(tasks)
    tasks.accept(attempt(task), lease=60)
    tasks.advance(attempt(task), Status.SUCCESS, "done")

    with pytest.raises(NotCancellable, match=f"Task {task.task_id} has ended already"):
        tasks.cancel(task.task_id)
    assert tasks.find(task.task_id, "ann").data == "done"
    with pytest.raises(UnknownResource, match="Task nothing does not exist"):
        tasks.cancel("nothing")


def test_a_task_is_either_taken_or_cancelled(tasks: Tasks) -> None:
    def cancelled(task: Task) -> bool:
        try:
            tasks.cancel(task.task_id)
        except FirecrestError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            task = made(tasks, stoppable=False)
            taking = [pool.submit(tasks.accept, attempt(task, holder=name), lease=60) for name in "abc"]
            ending = [pool.submit(cancelled, task) for _ in range(3)]
            assert sum(one.result() for one in (*taking, *ending)) == 1
            over = tasks.find(task.task_id, "ann").status.final
            assert over == any(one.result() for one in ending)


def test_a_task_ends_once_in_just_one_way(tasks: Tasks) -> None:
    def cancelled(task: Task) -> bool:
        try:
            tasks.cancel(task.task_id)
        except NotCancellable:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(100):
            task = made(tasks)
            tasks.accept(attempt(task), lease=60)
            done = pool.submit(tasks.advance, attempt(task), Status.SUCCESS, "done")
            gone = pool.submit(cancelled, task)
            assert done.result() != gone.result()
            assert tasks.find(task.task_id, "ann").data == ("done" if done.result() else "Deleted on request")


def test_a_page_is_read_without_the_rest_of_the_history(tasks: Tasks, redis: Redis) -> None:
    order = [made(tasks).task_id for _ in range(200)][::-1]
    before = redis.info("commandstats")["cmdstat_hmget"]["calls"]

    assert [task.task_id for task in tasks.of("ann", page=slice(10, 20))] == order[10:20]
    assert [task.task_id for task in tasks.of("ann", page=slice(195, 220))] == order[195:]
    assert tasks.of("ann", page=slice(1000, 1010)) == []
    assert redis.info("commandstats")["cmdstat_hmget"]["calls"] - before == 15


def test_a_page_is_full_though_records_have_expired(tasks: Tasks, redis: Redis) -> None:
    order = [made(tasks).task_id for _ in range(10)][::-1]
    redis.delete(*(f"task:{task_id}" for task_id in order[1:4]))

    assert [task.task_id for task in tasks.of("ann", page=slice(0, 3))] == [order[0], *order[4:6]]
    assert redis.zcard("tasks:of:ann") == 7


def test_tasks_are_chosen_by_time_and_by_what_they_are(tasks: Tasks) -> None:
    old = made(tasks, service="storage")
    mid, new = made(tasks), made(tasks)
    since = mid.created_at.timestamp()

    assert [task.task_id for task in tasks.of("ann", since=since)] == [new.task_id, mid.task_id]
    assert [task.task_id for task in tasks.of("ann", [old.task_id, mid.task_id, mid.task_id], since=since)] == [mid.task_id]
    assert tasks.of("ann", keep=lambda task: task.service == "storage") == [old]
    assert tasks.of("ann", keep=lambda task: task.service == "compute", page=slice(1, 2)) == [mid]
    assert tasks.of("ann", [old.task_id, new.task_id], keep=lambda task: task.service == "storage") == [old]
    assert tasks.of("ann", (new.task_id for _ in range(10_000))) == [new]
