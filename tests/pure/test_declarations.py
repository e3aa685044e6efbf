"""What every declared operation has."""

import pytest
from pydantic import ValidationError

import api.app  # noqa: F401 (every operation)
import workers.app  # noqa: F401 (every performer)
from api.local import ANSWERS
from schemas.compute import Accounting, SubmitPath
from schemas.errors import CommandFailed, MachineDoesNotExist, error_from_wire, error_to_wire
from schemas.operation import INTERNAL, OPERATIONS, Course
from schemas.task import Status
from workers.performing import PERFORMERS


def test_every_operation_is_performed_or_answered() -> None:
    local = {operation for operation in OPERATIONS if operation.route.course is Course.LOCAL}

    assert set(ANSWERS) == local
    assert set(PERFORMERS) == {*OPERATIONS, *INTERNAL} - local


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.task())
def test_every_operation_says_what_it_does(operation) -> None:
    assert operation.__doc__.strip().endswith(".")
    assert all(field.description for field in operation.model_fields.values())


def test_an_error_crosses_the_broker_as_itself() -> None:
    error = error_from_wire(error_to_wire(CommandFailed("text", says="says", description="description")))

    assert (type(error), error.text, error.says, error.description) == (CommandFailed, "text", "says", "description")


def test_a_header_is_one_line_of_latin_1() -> None:
    assert CommandFailed("one é €\ntwo").headers() == {"X-Error": "one é ?"}
    assert set(MachineDoesNotExist().headers()) == {"X-Machine-Does-Not-Exist", "X-Machine-Does-Not-Exists"}


def test_every_status_has_its_words() -> None:
    assert all(status.description for status in Status)
    assert {status.value for status in Status if status.final} == {"114", "115", "117", "118", "200", "400"}


@pytest.mark.parametrize(
    "moment",
    [
        "10:30",
        "10:30:11",
        "10:30 AM",
        "10:30:00PM",
        "0229",
        "022924",
        "02/29",
        "02.29.24",
        "02/29-10:11",
        "02/28/26-10:11:12",
        "2026-11-22",
        "2026-11-22T10:00:01",
        "",
    ],
)
def test_every_documented_time_format_is_taken(moment: str) -> None:
    assert Accounting.model_validate({"starttime": moment}).start_time == moment


@pytest.mark.parametrize("moment", ["yesterday", "25:00", "13/13", "2026-13-01", "now-1days", "2026-11-22 10:00"])
def test_other_times_are_refused(moment: str) -> None:
    with pytest.raises(ValidationError, match="is not a valid time format"):
        Accounting.model_validate({"endtime": moment})


@pytest.mark.parametrize("env", ["", "{", "[]", "null", "1", '{"a b": "c"}', '{"A": []}', '{"A": true}', '{"A": "\\u0000"}', '{"1A": "x"}'])
def test_an_environment_is_an_object_of_texts(env: str) -> None:
    with pytest.raises(ValidationError, match="Invalid JSON environment provided"):
        SubmitPath.model_validate({"targetPath": "/s", "env": env})
