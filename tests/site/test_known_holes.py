"""The holes that FirecREST v1 and v2 are known for (contract, 8.2), each tried for real: what clients can try.

S5 and S6 are tried in `tests/hosts/test_forced.py`, S9 to S13 and S15 in `test_known_holes_within.py`.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from broker.health import Probe
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from tests.site.transfers import MB, at, download, invalidate
from workers.staging.names import bucket_name

NODES = {
    "account": "projecta",
    "numberOfNodes": "1",
    "nodeType": "gpu",
    "starttime": "2035-01-01T00:00:00",
    "endtime": "2035-01-02T00:00:00",
}


@pytest.fixture
def canary(folder: Folder) -> Iterator[str]:
    """A path in alice's folder at which nothing may ever be."""
    path = f"{folder.path}/canary{secrets.token_hex(4)}"
    yield path
    assert not Path(path).exists()


def injections(canary: str) -> list[str]:
    """What a shell would make the canary of, wherever it is spliced in, quoted or not."""
    command = f"touch {canary}"
    return [
        *(f"' & {command} & '", f"'; {command}; '", f"' | {command} #", f"x\n{command}\n", f"x' && {command} && echo '", f"x > {canary}"),
        *(f"$({command})", f"`{command}`", f"'$({command})'", f'"; {command}; "', f"\\'; {command} #", f"<({command})", f"x\0{command}"),
    ]


# S1: shell injection through `grep` of head and tail


@pytest.mark.parametrize("program", ["head", "tail", "view"])
def test_s1_what_is_grepped_for_is_found_as_it_is_and_runs_nothing(alice: Client, folder: Folder, canary: str, program: str) -> None:
    texts = [*(text for text in injections(canary) if text.isprintable()), "$HOME", "-e two", "*", "--help", "-f/etc/passwd"]
    content = "".join(f"{text}\n" for text in texts) + "one\n" * 20
    file = folder.file("lines", content.encode())
    for text in texts:
        answer = alice.get(f"/utilities/{program}", params={"targetPath": file, "grep": text, "lines": "100"})
        lines = [line for line in content.splitlines() if text in line]
        assert (answer.status_code, answer.json()["output"].splitlines()) == (200, lines), text
    for text in (text for text in injections(canary) if not text.isprintable()):
        assert alice.get(f"/utilities/{program}", params={"targetPath": file, "grep": text}).status_code in (200, 400, 404)
    assert Path(file).read_text() == content, "nothing was cut off or written over"


# S2: shell injection through `env` of job submission


@pytest.mark.parametrize("how", ["upload", "path"])
def test_s2_an_environment_is_data_and_runs_nothing(alice: Client, folder: Folder, canary: str, how: str) -> None:
    out = f"{folder.path}/out"
    script = f"#!/bin/sh\n#SBATCH --output=/dev/null\nenv -0 >{out}.new && mv {out}.new {out}\n".encode()
    hostile = {f"HOLE_{number}": text for number, text in enumerate(injections(canary)) if "\0" not in text}
    env = json.dumps(hostile)
    if how == "upload":
        ticket = alice.post("/compute/jobs/upload", files={"file": ("job.sh", script)}, data={"env": env})
    else:
        ticket = alice.post("/compute/jobs/path", data={"targetPath": folder.file("job.sh", script), "env": env})
    assert alice.task(ticket)["status"] == "200", ticket.text
    eventually(Path(out).exists, seconds=60)
    seen = dict(line.split("=", 1) for line in Path(out).read_text().split("\0") if "=" in line)
    assert {name: seen.get(name) for name in hostile} == hostile


@pytest.mark.parametrize("name", ["A; touch x", "A$(id)", "A=B", "A B", "A\nB", "-A", "A'", ""])
def test_s2_the_name_of_a_variable_is_a_name(alice: Client, name: str) -> None:
    answer = alice.post("/compute/jobs/upload", files={"file": ("job.sh", b"#!/bin/sh\n")}, data={"env": json.dumps({name: "x"})})
    assert (answer.status_code, answer.json()["description"]) == (404, "Failed to submit job")


# S3: any user reads all users' tasks; S4: anybody changes them


@pytest.fixture
def task(alice: Client) -> dict[str, Any]:
    """A task of alice, as she sees it."""
    return alice.task(alice.get("/compute/partitions"))


@pytest.mark.parametrize(
    "path", ["/taskslist", "/tasks/taskslist", "/tasks/tasklist", "/tasks/of:fcalice", "/tasks/%2A", "/tasks/../taskslist"]
)
def test_s3_no_list_holds_the_tasks_of_others(site: Site, mallory: Client, task: dict[str, Any], path: str) -> None:
    for headers in ({}, {"Authorization": mallory.authorization()}):
        answer = requests.get(site.url + path, headers=headers, timeout=30)
        assert answer.status_code in (401, 404)
        assert task["task_id"] not in answer.text


def test_s3_a_task_is_shown_to_its_user_alone(site: Site, alice: Client, mallory: Client, task: dict[str, Any]) -> None:
    path = f"/tasks/{task['task_id']}"
    assert alice.get(path).json()["task"] == task
    answer = mallory.get(path)
    assert (answer.status_code, answer.json()) == (403, {"description": "Operation not permitted. Invalid task owner."})
    for query in ("", f"?tasks={task['task_id']}", "?tasks=*", "?user=fcalice", f"?tasks={task['task_id']}&user=fcalice"):
        assert task["task_id"] not in mallory.get(f"/tasks{query}").text
    assert requests.get(site.url + path, timeout=30).status_code == 401


@pytest.mark.parametrize("verb", ["PUT", "POST", "PATCH", "DELETE"])
def test_s4_nobody_changes_a_task_of_another(site: Site, alice: Client, mallory: Client, task: dict[str, Any], verb: str) -> None:
    path = f"/tasks/{task['task_id']}"
    forged = {"status": "200", "msg": "forged", "user": "fcmallory", "data": "forged"}
    for headers in ({}, {"Authorization": mallory.authorization()}, {"X-Firecrest-Service": "compute"}):
        for body in ({"data": forged}, {"json": forged}):
            answer = requests.request(verb, site.url + path, headers=headers, timeout=30, **body)  # type: ignore[arg-type]
            assert answer.status_code in (401, 403, 405)
    assert alice.get(path).json()["task"] == task


# S7: invalidate reports success, and the link lives on


def test_s7_an_invalidated_link_is_dead_and_its_file_gone(alice: Client, folder: Folder, staged: Callable[[], list[str]]) -> None:
    before = set(staged())
    ticket = download(alice, folder.file("data.bin", secrets.token_bytes(MB)))
    url = at(alice, ticket, "117")["data"]["url"]
    assert requests.get(url, timeout=30).status_code == 200
    assert set(staged()) - before
    answer = invalidate(alice, ticket.json()["task_id"])
    assert (answer.status_code, requests.get(url, timeout=30).status_code) == (201, 404)
    assert set(staged()) <= before


# S8: the list of tasks shows what the task itself hides


def test_s8_the_list_shows_no_more_than_the_task(alice: Client, folder: Folder) -> None:
    ticket = download(alice, folder.file("data.bin", b"x"))
    single = at(alice, ticket, "117")
    listed = alice.get("/tasks", params={"tasks": single["task_id"]}).json()["tasks"][single["task_id"]]
    assert listed.keys() <= single.keys()
    assert listed["data"] == single["data"]
    for word in ("cert", "action", "grant", "seal", "state", "message", "holder"):
        assert word not in listed
        assert word not in listed["data"]
    invalidate(alice, ticket.json()["task_id"])


# S14: any user makes a system look down, or up, to all


def test_s14_what_a_user_asks_changes_nobodys_status(site: Site, alice: Client) -> None:
    stranger, redis = Client(site, "nobody"), site.redis()

    def ages() -> dict[str, dict[bytes, bytes]]:
        return {str(probe): redis.hgetall(f"health:{probe}") for probe in Probe}

    eventually(lambda: alice.get("/status/systems/cluster").json()["out"]["status"] == "available", seconds=60)
    said = {path: alice.get(path).json() for path in ("/status/systems", "/status/services", "/status/filesystems")}
    asked = 0
    before, since = ages(), time.time()
    for path, answer in said.items():
        for headers in ({"Cache-Control": "no-cache"}, {"Cache-Control": "no-cache", "X-Machine-Name": "cluster"}, {"Pragma": "no-cache"}):
            assert stranger.get(path, headers=headers).json() == answer
            asked += 1
    assert asked == 9
    assert {path: alice.get(path).json() for path in said} == said
    # the service's own probes may have come in between, one of each at most: nine calls made none
    assert sum(before[kind] != now for kind, now in ages().items()) <= 4 * (1 + int((time.time() - since) / 10))


# S16: buckets are named after users, with one credential for all


@pytest.mark.parametrize("user", ["a_b", "ab", "x", "Upper", "a.b", "a..b", "-a", "xn--a", "192.168.0.1", "a" * 32, "firecrest"])
def test_s16_every_user_has_a_bucket_with_a_legal_name_of_their_own(user: str) -> None:
    name = bucket_name(user)
    assert 3 <= len(name) <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert len({bucket_name(other) for other in (user, user + "_", user + ".", user + "-u", name + "x")}) == 5


def test_s16_a_link_opens_one_file_of_one_user(site: Site, alice: Client, folder: Folder) -> None:
    """The credential that all links are signed with stays with the service; a link that is bent opens nothing."""
    ticket = download(alice, folder.file("data.bin", b"alice's"))
    task = at(alice, ticket, "117")
    url = task["data"]["url"]
    assert requests.get(url, timeout=30).content == b"alice's"
    assert site.facts["storage"]["secret_key"] not in json.dumps(task)
    path = url.partition("?")[0].removeprefix(site.facts["urls"]["s3"])
    for other in ("/", "/fcbob", "/fcbob/", "/fcalice/", path + "x", path.replace("fcalice", "fcbob")):
        answer = requests.get(url.replace(path, other, 1), timeout=30)
        assert answer.status_code in (403, 404), other
    for verb in ("PUT", "POST", "DELETE"):
        assert requests.request(verb, url, data=b"forged", timeout=30).status_code in (403, 405)
    assert requests.get(url, timeout=30).content == b"alice's"
    invalidate(alice, ticket.json()["task_id"])


# S17: fields of reservations are spliced into the command


@pytest.mark.parametrize("field", ["reservation", "account", "nodeType", "numberOfNodes", "starttime", "endtime"])
def test_s17_no_field_of_a_reservation_runs_or_ends_anything(dave: Client, canary: str, field: str) -> None:
    good = {"reservation": f"hole-{secrets.token_hex(4)}", **NODES}
    hostile = [*injections(canary), good[field] + "\n", good[field] + " Users=fcmallory", "--help", good[field] + "\r\n"]
    for text in hostile:
        answer = dave.post("/reservations", data=good | {field: text})
        assert answer.status_code == 400, (field, text, answer.text)
    names = [one["reservationname"] for one in dave.get("/reservations").json()["success"]]
    assert not [name for name in names if name.startswith("hole-")]


# S18: whole request URLs in logs


def test_s18_no_log_shows_what_stood_behind_the_path(site: Site, alice: Client, folder: Folder) -> None:
    marker = f"marker{secrets.token_hex(8)}"
    file = folder.file("lines", b"one\n")
    for status, query in ((404, {"grep": marker}), (400, {"lines": f"{marker};"}), (200, {"grep": "one", "code": marker, "token": marker})):
        assert alice.get("/utilities/head", params={"targetPath": file, **query}).status_code == status
    assert requests.get(f"{site.url}/utilities/head?grep={marker}", timeout=30).status_code == 401
    assert requests.get(f"{site.url}/nowhere?grep={marker}", timeout=30).status_code == 404
    time.sleep(1)
    for log in Path(site.facts["logs"]).iterdir():
        assert f"={marker}" not in log.read_text(errors="replace"), log.name


# v2: quoted paths are spliced into shell lines


NAMES = (
    *("$HOME", "${IFS}x", "*", "?", "[a-z]", "{a,b}", "~", "~root", "#x", "!x", "-rf", "--help", "=x", " x ", "a b", "%s"),
    *("é日本", "..x", "x:y@z"),
)


@pytest.mark.parametrize("name", NAMES)
def test_v2_a_path_is_one_word_to_every_operation(alice: Client, folder: Folder, name: str) -> None:
    """Whatever a shell would make of it: the file of just that name, and no other, is made, read, moved and removed."""
    bystander = folder.file("bystander", b"stays")
    place = Path(folder.path)
    path, copy, link = (f"{folder.path}/{prefix}{name}" for prefix in ("", "copy", "link"))
    upload = {"targetPath": folder.path}
    assert alice.post("/utilities/upload", data=upload, files={"file": (name, b"content")}).status_code == 201
    assert alice.get("/utilities/head", params={"targetPath": path}).json()["output"] == "content"
    assert [entry["name"] for entry in alice.get("/utilities/ls", params={"targetPath": path}).json()["output"]] == [path]
    assert alice.post("/utilities/copy", data={"sourcePath": path, "targetPath": copy}).status_code == 201
    assert alice.put("/utilities/chmod", data={"targetPath": copy, "mode": "600"}).status_code == 200
    assert alice.post("/utilities/symlink", data={"targetPath": copy, "linkPath": link}).status_code == 201
    assert alice.get("/utilities/view", params={"targetPath": link}).json()["output"] == "content"
    assert {entry.name for entry in place.iterdir()} == {"bystander", name, f"copy{name}", f"link{name}"}
    assert alice.put("/utilities/rename", data={"sourcePath": copy, "targetPath": f"{folder.path}/moved{name}"}).status_code == 200
    for gone in (path, link, f"{folder.path}/moved{name}"):
        assert alice.delete("/utilities/rm", data={"targetPath": gone}).status_code == 204
    assert [entry.name for entry in place.iterdir()] == ["bystander"]
    assert Path(bystander).read_bytes() == b"stays"


PATHS = (
    ("GET", "/utilities/ls", ("targetPath",)),
    ("PUT", "/utilities/rename", ("sourcePath", "targetPath")),
    ("POST", "/utilities/copy", ("sourcePath", "targetPath")),
    ("POST", "/utilities/symlink", ("targetPath", "linkPath")),
    ("POST", "/utilities/compress", ("sourcePath", "targetPath")),
    ("POST", "/utilities/extract", ("sourcePath", "targetPath")),
    ("POST", "/storage/xfer-internal/mv", ("sourcePath", "targetPath")),
    ("POST", "/storage/xfer-internal/rsync", ("sourcePath", "targetPath")),
)


@pytest.mark.parametrize(("verb", "path", "fields"), PATHS)
def test_v2_no_path_leaves_its_quotes(alice: Client, folder: Folder, canary: str, verb: str, path: str, fields: tuple[str, ...]) -> None:
    good = {name: folder.file(f"file-{name}") for name in fields}
    for field in fields:
        for text in injections(canary):
            values = good | {field: f"{folder.path}/{text}"}
            answer = alice.request(verb, path, **{"params" if verb == "GET" else "data": values})
            assert answer.status_code == 400, (field, text, answer.text)
