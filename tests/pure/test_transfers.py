"""The steps of a transfer, with a system and an object store that say what they are told to."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.key_rings import KeyRing
from broker.links import Links, LinkSealer
from schemas.errors import FirecrestError, MachineNotAvailable, StagedLimit, Stopped, StorageNotAvailable, StorageRefused, TooManyRequests
from schemas.settings import Limits, Storage, System
from schemas.task import Status, Task
from schemas.transfers import StageIn, StageOut
from workers.copies import Fate, Found, Measure, Target
from workers.external_transfers import stage_in, stage_out
from workers.performing import Ended, Rest, Step, Store
from workers.staging.s3 import S3Staging
from workers.staging.staging import Place, Staged

TASK = "0123456789abcdef0123456789abcdef"
MD5 = "9a0364b9e99bb480dd25e1f0284c8555"  # of "content"
SETTINGS = Storage.model_validate(
    {"private_url": "http://s3", "public_url": "http://s3", "access_key": "key", "secret_key": "secret", "retry_seconds": 100}
)
SYSTEM = System(name="cluster", host="login", host_keys=("key",))
UP = StageIn(target_path="/home/ann", source_path="/tmp/file")
DOWN = StageOut(source_path="/home/ann/file")


class Host:
    """Answers one command after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def run(self, _: object) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def proven(self) -> bool:
        return True


class Staging(S3Staging):
    """Signs as the real one does, and holds one file or none."""

    def __init__(self, held: Staged | FirecrestError | None = None) -> None:
        super().__init__(SETTINGS)
        self.held = held
        self.deleted = False

    def prepare(self, _: Place) -> None:
        if isinstance(self.held, FirecrestError):
            raise self.held

    def found(self, _: Place) -> Staged | None:
        self.prepare(_)
        return None if self.deleted else self.held  # type: ignore[return-value]

    def delete(self, _: Place) -> None:
        self.deleted = True


def file(etag: str = MD5) -> Staged:
    return Staged(Place("ann", f"{TASK}/file"), 7, etag, datetime.now(UTC))


WORKER, OPENER = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
SEALER = LinkSealer(lambda: WORKER, OPENER.public_key)


def opened(made: Rest | Ended) -> Any:
    """What the task says to its user."""
    moment = datetime.now(UTC)
    facts = {"task_id": TASK, "user": "ann", "service": "storage", "system": "here", "created_at": moment, "updated_at": moment}
    links = Links(lambda: [OPENER], KeyRing(WORKER.public_key()))
    return links.opened(Task(**facts, status=made.status, data=made.data)).data


class Quota:
    """What a user may stage; `taken` is what was."""

    def __init__(self) -> None:
        self.most, self.taken = 10**12, 0

    def left(self, _: int) -> int:
        return self.most

    def take(self, size: int, _: int) -> None:
        if size > self.most:
            raise StagedLimit("too much")
        self.taken = size


class Course:
    """A transfer that is taken from step to step."""

    settings = SETTINGS

    def __init__(self, op: StageIn | StageOut, staging: Staging) -> None:
        self.op, self.staging = op, staging
        self.status, self.state = Status.QUEUED, dict[str, Any]()
        self.told: list[str] = []
        self.quota = Quota()
        self.expires = time.time() + 8 * 86400

    def step(self, *answers: Any, cleaning: bool = False) -> Rest | Ended:
        scene = {
            "task_id": TASK,
            "user": "ann",
            "system": SYSTEM,
            "limits": Limits(),
            "blobs": None,
            "staged": Store(self.settings, self.staging, SEALER),
            "expires": self.expires,
            "quota": self.quota,
        }
        step = Step(**scene, status=self.status, state=self.state, cleaning=cleaning, tell=self.tell)
        perform: Callable[..., Rest | Ended] = stage_in if isinstance(self.op, StageIn) else stage_out
        host = Host(*answers)
        made = perform(self.op, host, step)
        assert host.answers == []
        self.status = made.status
        if isinstance(made, Rest):
            self.state = made.state
        return made

    def tell(self, status: Status, _: Any, state: dict[str, Any]) -> None:
        self.told.append(status.value)
        self.status, self.state = status, state


@pytest.fixture
def fetching() -> Course:
    """An upload that the system has begun to fetch."""
    course = Course(UP, Staging())
    course.step(Target("/home/ann/file", "/home/ann/file"))
    course.staging.held = file()
    course.step(None)
    assert (course.status, course.told) == (Status.FETCHING, ["112"])
    return course


def test_an_upload_waits_for_its_file_without_being_asked(fetching: Course) -> None:
    offered = Course(UP, Staging()).step(Target("/home/ann/file", "/home/ann/file"))

    assert isinstance(offered, Rest)
    assert (offered.status, offered.topic, round(offered.seconds)) == (Status.FORM_READY, "ann", 604800 + 300)


def test_a_file_that_may_come_unseen_is_asked_for_twice_as_late_each_time_until_its_link_expires() -> None:
    course = Course(UP, Staging())
    course.settings = SETTINGS.model_copy(update={"doubt_seconds": 10})
    offered = course.step(Target("/home/ann/file", "/home/ann/file"))
    assert isinstance(offered, Rest)
    pauses, expires = [offered.seconds], course.state["expires"]
    for waited in (1, 10, 20, 40, 604800):
        course.state["expires"] = expires - waited
        rest = course.step()
        assert isinstance(rest, Rest)
        pauses.append(rest.seconds)

    assert [round(pause) for pause in pauses] == [10, 10, 10, 20, 40, 300]


def test_what_has_come_whole_is_placed_and_leaves_nothing(fetching: Course) -> None:
    ended = fetching.step(Found(Fate.WHOLE, sums=(MD5,)), None, None)

    assert isinstance(ended, Ended)
    assert (ended.status, ended.data["etag"], ended.data["target"], fetching.staging.deleted) == (
        Status.FETCHED,
        MD5,
        "/home/ann/file",
        True,
    )


def test_a_step_that_was_lost_behind_the_decision_only_cleans(fetching: Course) -> None:
    with pytest.raises(Stopped):
        fetching.step(Found(Fate.WHOLE, sums=(MD5,)), None, Stopped())
    ended = fetching.step(None)

    assert ended.status is Status.FETCHED


def test_other_bytes_than_those_that_are_staged_are_a_failure_that_says_so(fetching: Course) -> None:
    ended = fetching.step(Found(Fate.WHOLE, sums=("0" * 32,)), None)

    assert ended.status is Status.FETCH_FAILED
    assert f"its checksum is {'0' * 32} instead of {MD5}" in ended.data["error"]
    assert (ended.data["status"], "curl" in opened(ended)["msg"]["command"]) == ("115", True)


def test_a_file_deleted_by_hand_ends_the_task_in_the_contracts_words(fetching: Course) -> None:
    fetching.staging.deleted = True
    ended = fetching.step(Found(Fate.CUT, code=22, text="curl: (22) The requested URL returned error: 404"), None)

    assert ended == Ended(Status.ERROR, "File was deleted from staging area. Start a new upload process")


def test_a_bucket_that_is_said_to_be_gone_is_made_again_and_the_file_sent_again() -> None:
    gone = Found(Fate.CUT, code=22, text="curl: (22) The requested URL returned error: 404")
    course = Course(DOWN, Staging())
    course.step(Measure("/home/ann/file", 7, "7 1 2"), None)
    course.staging.held = StorageNotAvailable("gone")
    assert isinstance(course.step(gone), Rest)
    course.staging.held = None
    assert isinstance(course.step(gone), Rest)
    assert (course.state["run"], course.state["running"]) == (2, False)


def test_a_file_that_is_more_than_its_user_may_stage_is_not_taken() -> None:
    course = Course(UP, Staging())
    course.step(Target("/home/ann", "/home/ann/file"))
    course.staging.held, course.quota.most = file(), 6
    ended = course.step()

    assert (ended.status, ended.data["msg"]) == (Status.ERROR, "too much")
    assert course.staging.deleted
    assert course.quota.taken == 0


def test_a_download_that_is_more_than_its_user_may_stage_is_not_sent() -> None:
    course = Course(DOWN, Staging())
    course.quota.most = 6
    ended = course.step(Measure("/home/ann/file", 7, "7 1 2"), None)

    assert (ended.status, ended.data["error"]) == (Status.STAGING_OUT_FAILED, "Upload to Staging area has failed. Object: file. too much")


def test_a_file_that_was_replaced_in_the_store_is_not_fetched(fetching: Course) -> None:
    fetching.staging.held = file("0" * 32)
    ended = fetching.step(Found(Fate.CUT, code=22, text="curl: (22) The requested URL returned error: 412"), None)

    assert (ended.status, ended.data["error"]) == (
        Status.FETCH_FAILED,
        "The file was replaced in the staging area while the system fetched it",
    )


@pytest.mark.parametrize(
    ("size", "came", "words"),
    [(8, 7, "The file that came has 7 bytes instead of 8"), (None, 5120 * 1024 * 1024 + 1, "File exceeds size limit")],
)
def test_a_file_of_a_size_that_was_not_agreed_on_is_not_taken(size: int | None, came: int, words: str) -> None:
    course = Course(UP.model_copy(update={"size": size}), Staging())
    course.step(Target("/home/ann/file", "/home/ann/file"))
    course.staging.held = replace(file(), size=came)
    ended = course.step()

    assert (ended.status, ended.data["msg"], course.staging.deleted) == (Status.ERROR, words, True)


@pytest.mark.parametrize(
    "lost", [Found(Fate.LOST), Found(Fate.CUT, code=7, text="curl: (7) Failed to connect"), MachineNotAvailable(), TooManyRequests()]
)
def test_what_may_go_well_later_is_tried_again_with_growing_pauses_until_it_has_failed_for_too_long(fetching: Course, lost: Any) -> None:
    pauses = []
    for _ in range(4):
        rest = fetching.step(lost)
        assert isinstance(rest, Rest)
        assert rest.status is Status.FETCHING
        pauses.append(rest.seconds)
        if not fetching.state["running"]:
            fetching.step(None)
    fetching.state["failing"] = time.time() - 101
    ended = fetching.step(lost, None)

    assert pauses == [1, 2, 4, 8]
    assert ended.status is Status.FETCH_FAILED


def test_a_copy_that_gets_on_is_looked_at_ever_less_often_until_it_nears_its_end_and_its_failures_are_forgiven(fetching: Course) -> None:
    fetching.step(Found(Fate.CUT, code=7))
    fetching.step(None)
    rests = []
    for moved, gone in ((1, 0), (2, 20), (3, 3600), (7, 3600)):
        fetching.state["begun"] = time.time() - gone
        rests.append(fetching.step(Found(Fate.RUNNING, moved=moved)))

    assert [round(rest.seconds, 1) for rest in rests] == [0.2, 1, 5, 0.2]  # type: ignore[union-attr]
    assert (fetching.state["failing"], fetching.state["pause"], fetching.state["run"]) == (0, 1, 2)
    assert rests[-1].data["progress"]["total"] == 7


def test_while_the_object_store_is_gone_the_form_is_waited_for() -> None:
    course = Course(UP, Staging(StorageNotAvailable("gone")))
    rest = course.step(Target("/home/ann/file", "/home/ann/file"))

    assert (rest.status, rest.data["status"]) == (Status.FORM_WAITED, "110")
    assert rest.data["msg"] == "Waiting for Presigned URL to upload file to staging area (Amazon S3 - Signature v4)"


def test_an_object_store_that_refuses_ends_the_task() -> None:
    ended = Course(UP, Staging(StorageRefused("Staging Area auth error, try again later"))).step(
        Target("/home/ann/file", "/home/ann/file"),
    )

    assert (ended.status, ended.data["msg"], ended.data["status"]) == (Status.ERROR, "Staging Area auth error, try again later", "400")


def test_an_upload_that_never_came_ends_when_its_link_has_expired() -> None:
    course = Course(UP, Staging())
    course.step(Target("/home/ann/file", "/home/ann/file"))
    course.state["expires"] = time.time() - 1
    ended = course.step()

    assert (ended.status, ended.data["msg"]) == (Status.ERROR, "The link has expired before the file came")


def test_a_download_ends_with_a_link_and_keeps_its_file() -> None:
    course = Course(DOWN, Staging(file()))
    course.step(Measure("/home/ann/file", 7, "7 1 2.3"), None)
    ended = course.step(Found(Fate.WHOLE, sums=(MD5,)), None)

    assert (ended.status, course.staging.deleted) == (Status.STAGED_OUT, False)
    assert {"source": "/home/ann/file", "system_name": "cluster", "size": 7, "etag": MD5}.items() <= ended.data.items()
    assert "://" not in str(ended.data["url"])
    assert opened(ended)["url"].startswith("http://s3/ann/-out/")


def test_a_download_that_fails_says_of_what() -> None:
    course = Course(DOWN, Staging(file()))
    course.step(Measure("/home/ann/file", 7, "7 1 2.3"), None)
    ended = course.step(Found(Fate.FAILED, text="The file has changed while it was read"), None)

    assert (ended.status, course.staging.deleted) == (Status.STAGING_OUT_FAILED, True)
    assert ended.data["error"] == "Upload to Staging area has failed. Object: file. The file has changed while it was read"


def test_a_cancelled_transfer_is_cleaned_after_until_that_has_failed_for_too_long(fetching: Course) -> None:
    assert isinstance(fetching.step(MachineNotAvailable(), cleaning=True), Rest)
    assert fetching.staging.deleted
    fetching.state["failing"] = time.time() - 101

    assert isinstance(fetching.step(MachineNotAvailable(), cleaning=True), Ended)


def test_cleaning_has_its_own_time_however_long_the_transfer_had_failed(fetching: Course) -> None:
    fetching.state["failing"] = time.time() - 99
    assert isinstance(fetching.step(MachineNotAvailable(), cleaning=True), Rest)

    assert fetching.state["failing"] > time.time() - 10


def test_a_download_that_is_cancelled_when_its_link_is_ready_keeps_no_file() -> None:
    course = Course(DOWN, Staging(file()))
    course.step(Measure("/home/ann/file", 7, "7 1 2.3"), None)
    with pytest.raises(Stopped):
        course.step(Found(Fate.WHOLE, sums=(MD5,)), Stopped())
    course.step(None, cleaning=True)

    assert course.staging.deleted


def test_a_file_over_the_limit_is_not_sent_even_if_it_would_be_one_part() -> None:
    course = Course(DOWN, Staging())
    course.settings = SETTINGS.model_copy(update={"max_file_size": 7})
    ended = course.step(Measure("/home/ann/file", 7 * 1024 * 1024 + 1, "7 1 2.3"), None)

    assert ended.status is Status.STAGING_OUT_FAILED
    assert "File exceeds size limit" in ended.data["error"]


def test_a_file_that_seems_to_have_come_in_parts_nobody_agreed_on_is_taken_for_one() -> None:
    course = Course(UP, Staging())
    course.step(Target("/home/ann/file", "/home/ann/file"))
    course.staging.held = file(f"{MD5}-3")
    course.step(None)

    assert course.state["part_size"] == 7


def test_a_transfer_that_its_grant_would_not_outlive_ends_while_it_can_be_cleaned_after(fetching: Course) -> None:
    fetching.expires = time.time() + 3590
    ended = fetching.step(None)

    assert (ended.status, ended.data["error"], fetching.staging.deleted) == (
        Status.FETCH_FAILED,
        "The transfer has taken too long",
        True,
    )
