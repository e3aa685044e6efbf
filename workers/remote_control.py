"""What workers let themselves be told by Celery's remote control."""

from typing import Final

from celery.worker.control import Panel

_ANSWERED: Final = frozenset({"ping"})


def answer_pings_only() -> None:
    """Have the workers of this process refuse every other command: whoever can write to Redis must not stop or inspect them."""
    for command in Panel.data.keys() - _ANSWERED:
        del Panel.data[command]
