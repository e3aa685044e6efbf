"""Which places on a system an operation touches: what allow-lists of paths are held against."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo


class Reach(StrEnum):
    """How much of a place is touched: where its path leads, or the last link itself; what links in it lead to too, or in all below it."""

    PATH = "path"
    ENTRY = "entry"
    LINKS = "links"
    TREE = "tree"


@dataclass(frozen=True)
class Place:
    """A place on the system; a relative path starts where the command does, at the home directory."""

    path: str
    reach: Reach = Reach.PATH


@dataclass(frozen=True)
class OnSystem:
    """Marks a parameter that is a path on the system."""

    reach: Reach = Reach.PATH


@dataclass(frozen=True)
class NotOnSystem:
    """Marks a parameter that reads like a path on the system, with the reason why no allow-list can be held against it."""

    why: str


def mark(field: FieldInfo) -> OnSystem | NotOnSystem | None:
    """The mark of a parameter."""
    return next((item for item in (*field.metadata, *_inner(field.annotation)) if isinstance(item, OnSystem | NotOnSystem)), None)


def _inner(kind: Any) -> Iterator[Any]:
    parts = get_args(kind)
    if get_origin(kind) is Annotated:
        yield from parts[1:]
    for part in parts:
        yield from _inner(part)
