"""What a caller's token may allow: classes of operations."""

from enum import StrEnum


class Right(StrEnum):
    """A class of operations: those that look, those that change files, those that run jobs, those that are an operator's."""

    READ = "read"
    WRITE = "write"
    SUBMIT = "submit"
    ADMIN = "admin"


EVERY_RIGHT = frozenset(Right)

# What operations that do more than look need, by the service that offers them; Route.open_to has the exceptions.
_CHANGING = {
    "utilities": frozenset({Right.WRITE}),
    "storage": frozenset({Right.WRITE}),
    "compute": frozenset({Right.SUBMIT}),
    "reservations": frozenset({Right.ADMIN}),
}


def rights_for(verb: str, service: str) -> frozenset[Right]:
    """Of which rights a call needs one, going by its verb and by the service that performs it."""
    return frozenset({Right.READ}) if verb == "GET" else _CHANGING[service]
