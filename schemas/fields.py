"""Kinds of parameter that several operations share: the input rules, once."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from schemas.places import OnSystem, Reach

_FORBIDDEN = re.compile(r"""[<>|;"'&\\()`\x00-\x1f]""")
_NUMBER = "[0-9]{1,18}"
_ONE_JOB = rf"{_NUMBER}(\+{_NUMBER}|_{_NUMBER}|_\[{_NUMBER}-{_NUMBER}\])?"
_JOB_ID = re.compile(_ONE_JOB)
_SIGNED_NUMBER = re.compile(r"[+-]?\d{1,9}", re.ASCII)
_WHOLE_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class Refusal:
    """How the refusal of a field is worded, where it is not `'<field>' <reason>` under the operation's own description.

    `missing` are the words for a field that is not there, if they differ. `{field}` stands for its name, in `error` also
    `{value}` for what was sent and `{reason}` for what is wrong with it.
    """

    description: str | None = None
    error: str = "'{field}' {reason}"
    status: int = 400
    missing: str | None = None


def because(reason: str) -> PydanticCustomError:
    """A refusal whose reason is put behind the name of the field."""
    return PydanticCustomError("reason", "{reason}", {"reason": reason})


def saying(text: str) -> PydanticCustomError:
    """A refusal in just these words."""
    return PydanticCustomError("saying", "{text}", {"text": text})


def harmless(text: str) -> str:
    """The text, if it passes the input check of the contract (1.1)."""
    if not text:
        raise because("is empty")
    if _FORBIDDEN.search(text):
        raise because("has invalid char")
    return text


def _flag(value: Any) -> bool:
    return value is True or str(value).lower() in ("true", "yes", "1")


def _count(text: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(harmless(text)):
        raise because("is not a whole number")
    return int(text)


def whole_number(text: str, otherwise: int) -> int:
    """The number that the text is, or `otherwise` when it is none."""
    return int(text) if _SIGNED_NUMBER.fullmatch(text) else otherwise


def _absent(value: Any) -> Any:
    return None if value == "" else value


def job_id(text: str) -> str:
    """The text, if it is a job id such as `12`, `12_3`, `12_[1-4]` or `12+0`."""
    if not _JOB_ID.fullmatch(text):
        raise saying(f"{text} is not a valid job ID")
    return text


def _job_ids(text: str) -> str:
    ids = harmless(text).split(",")
    if "" in ids:
        raise saying("Jobs list wrong format")
    for one in ids:
        job_id(one)
    return text


_COUNT = {"type": "integer", "minimum": 0}


def _shaped(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


Text = Annotated[str, AfterValidator(harmless), _shaped(r"""[^<>|;"'&\\()`\u0000-\u001f]+""")]
Path = Annotated[Text, OnSystem()]
Entry = Annotated[Text, OnSystem(Reach.ENTRY)]
Flag = Annotated[bool, BeforeValidator(_flag), Field(json_schema_extra={"type": "boolean"})]
Presence = Annotated[bool, BeforeValidator(lambda value: value is not False)]
Count = Annotated[int, BeforeValidator(lambda value: value if isinstance(value, int) else _count(str(value))), WithJsonSchema(_COUNT)]
JobId = Annotated[str, AfterValidator(job_id), _shaped(_ONE_JOB)]
JobIds = Annotated[str, AfterValidator(_job_ids), _shaped(f"{_ONE_JOB}(,{_ONE_JOB})*")]
Absent = BeforeValidator(_absent)


class Upload(BaseModel):
    """A file that came with the call: its content waits in the broker under `key`."""

    name: str
    key: str
    size: int
    sha256: str
