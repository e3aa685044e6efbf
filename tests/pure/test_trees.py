"""The steps of a directory's transfer, with a system and an object store that say what they are told to."""

import pytest
from pydantic import ValidationError

from schemas.errors import MachineNotAvailable, StorageNotAvailable
from schemas.places import Place
from schemas.task import Status
from schemas.transfers import StageIn, StageOut
from tests.pure.test_transfers import MD5, Course, Staging, file, opened
from workers.copies import Fate, Found, Run, Target, look
from workers.performing import Ended, Rest
from workers.trees import FileResult, Results, results

UP = StageIn(target_path="/home/ann", source_path="/tmp/tree.tar", directory=True)
DOWN = StageOut(source_path="/home/ann/tree", directory=True)
MEASURED = Found(Fate.WHOLE, sums=("10240", "0" * 64))
TOLD = Results((FileResult("a", 1, "ok"),), 1)
SHOWN = {"files": [{"name": "a", "size": 1, "result": "ok"}], "files_in_all": 1}


@pytest.fixture
def unpacking() -> Course:
    """An upload whose archive has come whole and is being unpacked."""
    course = Course(UP, Staging())
    course.step(Target("/home/ann/tree", "/home/ann/tree"))
    course.staging.held = file()
    course.step(None, None)
    course.step(Found(Fate.WHOLE, sums=(MD5,)), None)
    assert (course.status, course.state["unpacking"], course.state["run"]) == (Status.FETCHING, True, 2)
    return course


def shown(data: dict[str, object]) -> dict[str, object]:
    """What is told of single files."""
    return {name: list(data[name]) if name == "files" else data[name] for name in SHOWN}  # type: ignore[call-overload]


def test_what_is_unpacked_is_placed_and_told(unpacking: Course) -> None:
    ended = unpacking.step(Found(Fate.WHOLE), TOLD, None, None)

    assert (ended.status, ended.data["etag"], shown(ended.data), unpacking.staging.deleted) == (Status.FETCHED, MD5, SHOWN, True)


def test_an_unpacking_that_was_lost_is_begun_anew_without_fetching(unpacking: Course) -> None:
    assert isinstance(unpacking.step(Found(Fate.LOST)), Rest)
    unpacking.step(None)

    assert (unpacking.state["run"], unpacking.state["unpacking"], unpacking.state["running"]) == (3, True, True)


def test_an_archive_that_cannot_be_unpacked_is_a_failure_that_tells_of_which_file(unpacking: Course) -> None:
    assert isinstance(unpacking.step(Found(Fate.FAILED, text="No space left"), MachineNotAvailable()), Rest)
    ended = unpacking.step(Found(Fate.FAILED, text="No space left"), TOLD, None)

    assert (ended.status, ended.data["error"], shown(ended.data)) == (Status.FETCH_FAILED, "No space left", SHOWN)


def test_an_archive_that_is_not_what_was_staged_is_not_unpacked() -> None:
    course = Course(UP, Staging())
    course.step(Target("/home/ann/tree", "/home/ann/tree"))
    course.staging.held = file()
    course.step(None, None)
    ended = course.step(Found(Fate.WHOLE, sums=("0" * 32,)), None)

    assert ended.status is Status.FETCH_FAILED
    assert "its checksum is" in ended.data["error"]


def test_a_directory_is_measured_then_sent() -> None:
    course = Course(DOWN, Staging(file()))
    course.step("/home/ann/tree", None)
    course.step(MEASURED, None)
    assert (course.state["size"], course.state["version"], course.state["run"]) == (10240, "0" * 64, 2)
    ended = course.step(Found(Fate.WHOLE, sums=(MD5,)), TOLD, None)

    assert (ended.status, ended.data["archive"], shown(ended.data)) == (Status.STAGED_OUT, "tree.tar", SHOWN)
    assert "/tree.tar?" in opened(ended)["url"]


def test_a_measure_is_not_taken_for_sums_when_the_object_store_was_gone_meanwhile() -> None:
    course = Course(DOWN, Staging(StorageNotAvailable("gone")))
    course.step("/home/ann/tree", None)
    assert isinstance(course.step(MEASURED), Rest)
    course.staging.held = file()
    course.step(None)
    course.step(MEASURED, None)

    assert (course.state["size"], course.state["run"]) == (10240, 3)


def test_a_directory_that_cannot_be_read_is_a_failure_that_tells_of_which_file() -> None:
    course = Course(DOWN, Staging(file()))
    course.step("/home/ann/tree", None)
    ended = course.step(Found(Fate.FAILED, text="Permission denied"), TOLD, None)

    assert isinstance(ended, Ended)
    assert (ended.status, shown(ended.data)) == (Status.STAGING_OUT_FAILED, SHOWN)


def test_a_result_that_was_cut_through_is_left_out() -> None:
    output = b"5\n0\t0\tPermission denied\ta\tb\n\xff\x001\t3\ts\tc\x002\t4\t-\td\x002\t5"

    assert results("/job", seconds=5).parse(output) == Results(
        (FileResult("a\tb\n\ufffd", 0, "Permission denied"), FileResult("c", 3, "left out: a socket"), FileResult("d", 4, "ok")), 5
    )


@pytest.mark.parametrize(
    ("name", "directory"),
    [("a.tar", "a"), ("a", "a"), ("a.tar.tar", "a.tar"), (".tar", ".tar"), ("..tar", "..tar"), ("...tar", "...tar"), ("a.tgz", "a.tgz")],
)
def test_a_directory_is_called_as_its_archive(name: str, directory: str) -> None:
    op = StageIn(target_path="/in", source_path=f"/somewhere/{name}", directory=True)
    assert op.arriving_name() == directory
    assert op.places() == (Place("/in"), Place(f"/in/{directory}"))
    assert op.model_copy(update={"directory": False}).arriving_name() == name


def test_a_slash_may_end_the_name_of_a_directory_but_of_no_file() -> None:
    assert StageOut.model_validate({"sourcePath": "/home/ann/tree//", "directory": "true"}).source_path == "/home/ann/tree"
    for form in ({"sourcePath": "tree/"}, {"sourcePath": "/", "directory": "true"}, {"sourcePath": "..", "directory": "yes"}):
        with pytest.raises(ValidationError, match="is not the name of a file"):
            StageOut.model_validate(form)


def test_no_more_is_kept_of_what_users_say_of_their_files_and_copies_than_programs_write() -> None:
    said = results("/job", seconds=1).parse(b"9\n" + b"2\t1\tf\tname\0" * 10**6)
    ended = look(Run("/job", 1, 1, 1), seconds=1).parse(b"failed\n" + b"x" * 10**7)

    assert len(said.files) < 10_000
    assert len(ended.text) < 100_000
