"""Kinds of parameter that say what a job may ask for: what is no such thing is refused before a scheduler sees it."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import AfterValidator, WithJsonSchema

from schemas.fields import Absent, Count, Refusal, Text, because, harmless, saying

_PARTS: Final = {
    "id": r"\d{1,18}(?:_(?:\d{1,18}|\*))?(?:\+\d{1,18})?",
    "range": r"\d{1,9}(?:-\d{1,9}(?::\d{1,9})?)?",
    "gpu": r"(?:[\w.-]+:)?\d{1,9}",
}
_WAIT = rf"[a-z]+(?::{_PARTS['id']})*"


def _like(pattern: str, what: str) -> Callable[[str], str]:
    form = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not form.fullmatch(text):
            raise because(f"is not {what}")
        return text

    return check


_CLOCK = re.compile(
    r"(?=.*[1-9])(?:\d{1,9}|\d{1,9}:[0-5]?\d|\d{1,9}:[0-5]?\d:[0-5]?\d|\d{1,9}-(?:[01]?\d|2[0-3])(?::[0-5]?\d){0,2})", re.ASCII
)


def _duration(text: str) -> str:
    if not _CLOCK.fullmatch(text):
        raise saying("Not supported time format")
    return text


def _positive(number: int) -> int:
    if number < 1:
        raise because("is not greater than 0")
    return number


def _wanted(kind: Any, *checks: Callable[[Any], Any]) -> Any:
    """A kind of parameter that may be absent, which is also what an empty one is."""
    return Annotated[Annotated[kind, *map(AfterValidator, checks)] | None, Absent, Refusal("Invalid {field}")]


Name = _wanted(str, harmless)
Number = _wanted(Annotated[Count, WithJsonSchema({"type": "integer", "minimum": 1})], _positive)
Duration = _wanted(str, harmless, _duration)
Limit = Annotated[str, AfterValidator(_duration), Refusal(description="")]
NodeCount = _wanted(str, _like(r"[1-9]\d{0,8}(?:-[1-9]\d{0,8})?", "a number of nodes, or a range such as 2-4"))
Memory = _wanted(str, _like(r"\d{1,15}[KMGTkmgt]?", "an amount of memory such as 4000M"))
Gpus = _wanted(str, _like(rf"{_PARTS['gpu']}(?:,{_PARTS['gpu']})*", "a number of GPUs, or type:number"))
# these need characters that the input check forbids, and no others
Constraint = _wanted(str, _like(r"[\w.,:@=+*&|()\[\]-]{1,1000}", "a constraint"))
Dependency = _wanted(str, _like(rf"{_WAIT}(?:[,?]{_WAIT})*", "a dependency such as afterok:12:13"))
_JOBS = _like(rf"{_PARTS['id']}(?::{_PARTS['id']})*", "a job id, or several with ':' between")
Awaited = Annotated[Annotated[str, AfterValidator(harmless), AfterValidator(_JOBS)] | None, Refusal("Invalid {field}")]
Account = Annotated[Text | None, Refusal("Invalid account")]
Indices = _wanted(str, _like(rf"{_PARTS['range']}(?:,{_PARTS['range']})*(?:%\d{{1,9}})?", "a list of indices such as 0-15%4"))
Begin = _wanted(str, _like(r"[\w:/.+-]+(?: [\w:/.+-]+)*", "a time such as 2026-11-22T10:00 or now+1hour"))
