"""Moments as sacct(1) takes them, of which clients write some."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator

from schemas.fields import harmless, saying

_TIME_FORMATS = (
    *(f"%H:%M{seconds}" for seconds in ("", ":%S")),
    *(f"%I:%M{seconds}{blank}%p" for seconds in ("", ":%S") for blank in ("", " ")),
    *("%m%d%y", "%m%d"),
    *(f"%m{mark}%d{year}" for mark in "/." for year in ("", f"{mark}%y")),
    *(f"%m/%d{year}-%H:%M{seconds}" for year in ("", "/%y") for seconds in ("", ":%S")),
    *("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"),
)


def _moment(text: str) -> str:
    if text and not time_format(harmless(text)):
        raise saying(f"'{text}' is not a valid time format")
    return text


def time_format(text: str) -> str | None:
    """The format, as strptime knows it, in which a text is a moment."""
    return next((form for form in _TIME_FORMATS if _is(text, form)), None)


def _is(text: str, form: str) -> bool:
    dated = "%y" in form or "%Y" in form
    try:
        datetime.strptime(text if dated else f"2000 {text}", form if dated else f"%Y {form}")  # noqa: DTZ007 (the system knows its zone)
    except ValueError:
        return False
    return True


Moment = Annotated[str, AfterValidator(_moment)]
