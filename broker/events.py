"""The events that Flower shows: gathered for half a second, and one for each task that began and ended meanwhile."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from celery.app.events import Events as CelerysEvents
from celery.events import EventDispatcher

SECONDS: Final = 0.5
_TASK: Final = "task"
_ENDS: Final = frozenset({"task-succeeded", "task-failed"})
# Without Redis the newest are kept: so many messages, of so many events each.
_MESSAGES: Final = 100
_EVENTS: Final = 500

Event = dict[str, Any]


class Dispatcher(EventDispatcher):  # type: ignore[misc]
    """Celery's, with larger messages, fewer events, and a bound to what is kept."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "buffer_limit": _EVENTS})
        self._outbound_buffer: deque[Any] = deque(maxlen=_MESSAGES)

    def flush(self, errors: bool = True, groups: bool = True) -> None:  # noqa: FBT001, FBT002 (Celery's)
        """Send what was gathered."""
        with self.mutex:
            events = self._group_buffer[_TASK]
            count = len(events)
            events[:count] = joined(events[:count])
        super().flush(errors, groups)


class Events(CelerysEvents):  # type: ignore[misc]
    """Celery's, with our dispatcher."""

    dispatcher_cls = Dispatcher


def joined(events: Iterable[Event]) -> list[Event]:
    """The same events, but one alone for each task of which both the beginning and the end are among them."""
    tasks: dict[str, list[Event]] = {}
    for event in events:
        tasks.setdefault(event["uuid"], []).append(event)
    return [event for told in tasks.values() for event in _joined(told)]


def _joined(events: list[Event]) -> Iterator[Event]:
    if events[0]["type"] != "task-received" or events[-1]["type"] not in _ENDS:
        yield from events
        return
    # where Celery's monitors keep the moment of each
    moments = {event["type"].removeprefix("task-"): event["timestamp"] for event in events}
    yield {name: value for event in [*events, moments] for name, value in event.items()}
