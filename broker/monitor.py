"""A Celery application for Flower, which looks on: it asks nothing of the workers, and tells them nothing."""

from functools import cached_property
from typing import Any

from celery.app.control import Control, Inspect

from broker.celery import create_celery
from broker.configuration import read_settings


class _Unanswered(Inspect):  # type: ignore[misc]
    def _request(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}


class Onlooker(Control):  # type: ignore[misc]
    """Celery's remote control, less all that is sent to workers: Flower's user of Redis may not send it either."""

    @cached_property
    def inspect(self) -> Any:
        """Questions, none of which is asked."""
        return self.app.subclass_with_self(_Unanswered, reverse="control.inspect")

    def broadcast(self, command: str, *_: Any, **__: Any) -> None:
        """Send nothing."""


app = create_celery(read_settings("flower"), control=Onlooker)
