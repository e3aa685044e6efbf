"""What the service does for itself on every beat: find lost tasks, and see what answers."""

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from redis.exceptions import ResponseError

from broker.celery import HOUSEKEEPING, QUEUES, probes
from broker.gateway import send_attempt
from broker.health import Probe
from broker.tasks import Fate, Tasks
from broker.trail import Trail
from schemas.settings import Settings
from schemas.task import Status
from workers.probes import Prober

_LOG = logging.getLogger(__name__)
_BATCHES = 20


class Sweeper:
    """Sends again what has lost its worker or its message (architecture, 2, "At least once")."""

    def __init__(self, app: Celery, tasks: Tasks, attempts: int) -> None:
        self._app = app
        self._tasks = tasks
        self._attempts = attempts
        self._trail = Trail("worker")

    def sweep(self) -> None:
        """Look at all that is due; of what waits in a queue, ask that queue how far it has come."""
        waited_for: set[str] = set()
        for _ in range(_BATCHES):
            if not (due := self._tasks.due()):
                break
            for task_id in due:
                self.look_at(task_id, waited_for)
        for queue in waited_for:
            send_passage(self._app, self._tasks, queue)

    def look_at(self, task_id: str, waited_for: set[str]) -> None:
        """Do with a due task what is to be done; of one that waits in a queue, add the queue to `waited_for`."""
        try:
            fate = self._tasks.reclaim(task_id, attempts=self._attempts)
        except ResponseError:
            _LOG.exception("the record of task %s cannot be read", task_id)
            return
        if fate in (Fate.LOST, Fate.RESTED):
            self._send_again(task_id, lost=fate is Fate.LOST)
        elif fate is Fate.WAITING:
            waited_for.add(self._tasks.service(task_id))
        elif fate is Fate.ABANDONED:
            self._trail.record(task=task_id, result="given up", status=Status.ERROR.value)
            _LOG.error("task %s was lost %s times and is given up", task_id, self._attempts)

    def _send_again(self, task_id: str, *, lost: bool) -> None:
        if found := self._tasks.message(task_id):
            message, attempt = found
            if lost:
                _LOG.warning("task %s was lost and is sent again, attempt %s", task_id, attempt)
            send_attempt(self._app, task_id, message, attempt=attempt)


def send_passage(app: Celery, tasks: Tasks, queue: str) -> None:
    """Send a message through a queue that only states when it was sent, unless one is under way."""
    if sent := tasks.ask(queue):
        app.send_task(f"{queue}.Passage", (sent,), queue=queue)


def keep_house(app: Celery, tasks: Tasks, prober: Prober, settings: Settings) -> None:
    """Give `app` the tasks of the beat, and those that every queue must let through; a worker that starts probes at once."""
    sweeper = Sweeper(app, tasks, settings.engine.attempts)

    def send_passages() -> None:
        for queue in QUEUES:
            send_passage(app, tasks, queue)

    def probe_at_once(**_: Any) -> None:
        if HOUSEKEEPING in app.amqp.queues.consume_from:
            for tick in probes(settings).values():
                app.send_task(tick["task"], tick["args"], **tick["options"])

    register(app, "beat.Sweep", sweeper.sweep)
    register(app, "beat.ProbeServices", send_passages)
    for probe in Probe:
        _let_probe(app, prober, probe)
    for queue in QUEUES:
        let_pass(app, tasks, queue)
    worker_ready.connect(probe_at_once, weak=False)


def _let_probe(app: Celery, prober: Prober, probe: Probe) -> None:
    def look(system: str) -> None:
        prober.probe(probe, system)

    register(app, str(probe), look)


def let_pass(app: Celery, tasks: Tasks, queue: str) -> None:
    """Give `app` the task that states that a message has come out of a queue."""

    def passage(sent: str) -> None:
        tasks.passed(queue, sent)

    register(app, f"{queue}.Passage", passage)


def register(app: Celery, name: str, function: Callable[..., Any]) -> None:
    """Give `app` a task that Flower is not told of: it shows what users do."""
    app.task(name=name, ignore_result=True, send_events=False, shared=False)(function)
