"""Transfers on their way: how far they have come, and how they are ended on request or made invalid."""

from pathlib import Path
from typing import Any

import pytest
import requests

from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from tests.site.transfers import (
    MB,
    Local,
    at,
    download,
    frozen_store,
    held_back,
    invalidate,
    names,
    send,
    send_part,
    slow_store,
    upload,
    working_for,
)

pytestmark = [pytest.mark.usefixtures("nothing_is_left"), pytest.mark.stores("radosgw", "swift")]


def cancel(alice: Client, ticket: requests.Response) -> None:
    """Cancel a transfer, and see what is said of it."""
    answer = alice.delete(ticket.json()["task_url"])
    assert answer.status_code == 200, answer.text
    told = answer.json()["task"]
    assert (told["status"], told["description"], told["data"]) == ("400", "Finished with errors", "Deleted on request")
    again = alice.delete(ticket.json()["task_url"])
    assert (again.status_code, again.json()["error"]) == (400, f"Task {told['task_id']} has ended already")


def fetched(alice: Client, folder: Folder, local: Local, size: int) -> requests.Response:
    """An upload whose file the system fetches."""
    ticket = upload(alice, folder.path, local(bytes(size)))
    ready = at(alice, ticket, "111")
    with held_back(ready["task_id"]):
        send(ready)
        at(alice, ticket, "113")
    return ticket


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_progress_is_seen_and_then_a_cancelled_copy_ends_at_once(
    alice: Client, site: Site, folder: Folder, local: Local, *, up: bool
) -> None:
    ticket = fetched(alice, folder, local, 150 * MB) if up else None
    source, seen = folder.file("large", bytes(150 * MB)), list[dict[str, int]]()
    with slow_store(site):
        ticket = ticket or download(alice, source)
        task_id = ticket.json()["task_id"]

        def moving() -> bool:
            task: dict[str, Any] = alice.get(ticket.json()["task_url"]).json()["task"]
            assert task["status"] in ("100", "113", "116"), task
            progress = task["data"].get("progress") if isinstance(task["data"], dict) else None
            if progress and progress["bytes"] > (seen[-1]["bytes"] if seen else 0):
                seen.append(progress)
            return len(seen) > 1

        eventually(moving, seconds=60)
        assert working_for(task_id)
        cancel(alice, ticket)
        eventually(lambda: not working_for(task_id), seconds=10)

    assert all(0 < one["bytes"] <= one["total"] == 150 * MB and one["rate"] > 0 for one in seen)
    assert names(folder.path) == ["large"]


@pytest.mark.parametrize("size", [7, 70 * MB])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_what_is_cancelled_before_the_store_has_answered_leaves_nothing(
    alice: Client, site: Site, folder: Folder, *, up: bool, size: int
) -> None:
    source = folder.file("source", bytes(size))
    with frozen_store(site):
        ticket = upload(alice, folder.path, "a", size=size, multipart="true") if up else download(alice, source)
        assert alice.get(ticket.json()["task_url"]).json()["task"]["status"] < "111" or not up
        cancel(alice, ticket)
    assert names(folder.path) == ["source"]


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_cancelled_upload_is_not_awaited_any_more(alice: Client, folder: Folder, local: Local, *, in_parts: bool) -> None:
    more = {"multipart": "true", "size": 70 * MB} if in_parts else {}
    ticket = upload(alice, folder.path, local(b"late"), **more)
    ready = at(alice, ticket, "111")
    assert ready["task_id"].encode() in alice.site.redis().smembers("awaited:fcalice")
    if in_parts:
        send_part(ready["data"]["msg"]["parameters"]["multipart"], 1, bytes(64 * MB))
    cancel(alice, ticket)

    assert ready["task_id"].encode() not in alice.site.redis().smembers("awaited:fcalice")
    assert names(folder.path) == []


def test_a_file_that_has_come_is_removed_when_its_upload_is_cancelled(alice: Client, folder: Folder, local: Local) -> None:
    ticket = upload(alice, folder.path, local(b"content"))
    ready = at(alice, ticket, "111")
    with held_back(ready["task_id"]):
        send(ready)
        at(alice, ticket, "113")
        cancel(alice, ticket)
    assert names(folder.path) == []


def test_what_has_ended_is_not_cancelled(alice: Client, folder: Folder, local: Local) -> None:
    ticket = upload(alice, folder.path, local(b"content"))
    send(at(alice, ticket, "111"))
    at(alice, ticket, "114")
    down = download(alice, f"{folder.path}/local.bin")
    done = at(alice, down, "117")

    for ended in (ticket, down):
        answer = alice.delete(ended.json()["task_url"])
        assert (answer.status_code, "has ended already" in answer.json()["error"]) == (400, True)
    assert requests.get(done["data"]["url"], timeout=10).content == b"content"
    assert Path(folder.path, "local.bin").read_bytes() == b"content"
    assert invalidate(alice, ticket.json()["task_id"]).json()["error"] == "Could not invalidate URL"
    for _ in range(2):
        assert invalidate(alice, done["task_id"]).status_code == 201
    assert requests.get(done["data"]["url"], timeout=10).status_code == 404


def test_a_transfer_that_has_not_ended_is_not_invalidated(alice: Client, site: Site, folder: Folder) -> None:
    up = upload(alice, folder.path, "a")
    at(alice, up, "111")
    with frozen_store(site):
        down = download(alice, folder.file("source", b"content"))
        for ticket in (up, down):
            answer = invalidate(alice, ticket.json()["task_id"])
            assert (answer.status_code, answer.json()["error"]) == (400, "Could not invalidate URL")
            cancel(alice, ticket)
            assert invalidate(alice, ticket.json()["task_id"]).json()["error"] == "Could not invalidate URL"
