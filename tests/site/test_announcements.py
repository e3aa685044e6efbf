"""Uploads whose end the object store announces, and those whose announcement is lost."""

from collections.abc import Callable, Iterator

import pytest

from schemas.announcements import HEARTBEAT
from schemas.settings import Storage
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder, ObjectStore
from tests.site.transfers import at, names, send, upload


@pytest.fixture(autouse=True)
def _announced(site: Site, alice: Client) -> Iterator[None]:
    """Announcements come through, before each test and after it."""
    eventually(lambda: site.redis().exists("health:announcements"), seconds=60)
    yield
    for program in ("api", "housekeeping"):
        if "RUNNING" not in site.supervisor("status", program):
            site.supervisor("start", program)
    eventually(lambda: alice.get("/utilities/whoami").status_code == 200, seconds=60)
    eventually(lambda: site.redis().exists("health:announcements"), seconds=60)


def awaited(site: Site) -> set[bytes]:
    """The uploads of alice that are awaited."""
    found: set[bytes] = site.redis().smembers("awaited:fcalice")
    return found


@pytest.mark.usefixtures("nothing_is_left")
def test_the_announcement_alone_wakes_the_task(site: Site, alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    ticket = upload(alice, folder.path, local(b"content"))
    ready = at(alice, ticket, "111")
    site.supervisor("stop", "housekeeping")  # which polls
    assert ready["task_id"].encode() in awaited(site)
    send(ready)

    assert ready["task_id"].encode() not in awaited(site)
    site.supervisor("start", "housekeeping")
    at(alice, ticket, "114", seconds=60)
    assert names(folder.path) == ["local.bin"]


@pytest.mark.usefixtures("nothing_is_left")
def test_a_file_that_comes_while_the_api_is_away_is_found(site: Site, alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    ticket = upload(alice, folder.path, local(b"content"))
    ready = at(alice, ticket, "111")
    site.supervisor("stop", "api")
    send(ready)
    site.supervisor("start", "api")
    eventually(lambda: alice.get("/utilities/whoami").status_code == 200 if _answers(alice) else None, seconds=60)

    at(alice, ticket, "114", seconds=60)
    assert names(folder.path) == ["local.bin"]


def _answers(alice: Client) -> bool:
    try:
        return alice.get("/storage/status").ok
    except OSError:
        return False


def test_the_heartbeat_is_one_file_and_no_upload(site: Site, object_store: ObjectStore) -> None:
    storage = Storage.model_validate(site.facts["stores"]["radosgw"])
    assert [entry.object_name for entry in object_store.list_objects(storage.bucket, recursive=True)] == [HEARTBEAT]


@pytest.mark.parametrize("secret", ["", "0" * 40])
def test_nobody_else_is_believed(site: Site, alice: Client, folder: Folder, local: Callable[..., str], secret: str) -> None:
    ready = at(alice, upload(alice, folder.path, local(b"content")), "111")
    arrival = {"s3": {"bucket": {"name": "fcalice"}, "object": {"key": f"{ready['task_id']}/local.bin"}}, "opaqueData": secret}
    refused = alice.post("/storage/announcements", json={"Records": [arrival]})

    assert (refused.status_code, refused.json()) == (403, {"description": "Permission denied", "error": "Forbidden"})
    assert ready["task_id"].encode() in awaited(site)
    alice.delete(f"/tasks/{ready['task_id']}")


@pytest.mark.usefixtures("nothing_is_left")
def test_a_false_announcement_is_but_an_early_look(site: Site, alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    ticket = upload(alice, folder.path, local(b"content"))
    ready = at(alice, ticket, "111")
    secret = site.facts["secrets"]["notifications"]
    arrival = {"s3": {"bucket": {"name": "fcalice"}, "object": {"key": f"{ready['task_id']}/local.bin"}}, "opaqueData": secret}
    for _ in range(2):
        assert alice.post("/storage/announcements", json={"Records": [arrival]}).status_code == 204
        eventually(lambda: ready["task_id"].encode() in awaited(site))
    assert at(alice, ticket, "111")["data"] == ready["data"]
    send(ready)

    at(alice, ticket, "114")
