"""The synchronous and the asynchronous v1 client of pyfirecrest do the same things with the same outcome."""

import hashlib
import random
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import firecrest
import pytest
from firecrest.FirecrestException import NotFound
from packaging.version import Version

from tests.real_site import Site, eventually

LIMIT = 5 * 1024 * 1024
SLEEP = "#!/bin/sh\n#SBATCH --job-name=asleep\n#SBATCH --output=/dev/null\nsleep 600\n"


@pytest.fixture
def home(client: Any, system: str) -> Iterator[str]:
    """A folder of alice on the system, made and deleted by the client."""
    path = f"/home/fcalice/test-{uuid4().hex}"
    assert client.mkdir(system, f"{path}/deep/er", p=True) == f"{path}/deep/er"
    yield path
    client.simple_delete(system, path)
    assert not Path(path).exists()


def test_the_version_is_found_by_the_client_itself(make: Callable[..., Any], system: str, site: Site) -> None:
    client = make()
    assert client.list_files(system, "/home/fcalice/.", recursive=False) is not None
    inner = getattr(client, "client", client)
    assert inner._api_version >= Version("1.16.1")
    assert inner._query_api_version is False


def test_a_version_may_be_set(make: Callable[..., Any], system: str) -> None:
    client = make()
    client.set_api_version("1.16.1")
    assert client.groups(system)["user"]["name"] == "fcalice"


def test_slashes_at_the_end_of_the_url_do_no_harm(make: Callable[..., Any], system: str, site: Site) -> None:
    assert make(url=site.url + "//").whoami(system) == "fcalice"


def test_the_deployment_tells_what_it_is(client: Any, system: str) -> None:
    ready = [{"system": name, "status": "available", "description": "System ready"} for name in (system, "ridge")]
    eventually(lambda: client.all_systems() == ready)
    services = {service["service"]: service for service in client.all_services()}
    assert services["utilities"] == {
        "service": "utilities", "status": "available", "status_code": 200, "description": "server up & flask running",
    }  # fmt: skip
    assert services["compute"]["status"] == "available"
    groups = client.parameters()
    assert set(groups) == {"general", "compute", "utilities", "storage"}
    values = {item["name"]: (item["value"], item["unit"]) for group in groups.values() for item in group}
    assert values["UTILITIES_MAX_FILE_SIZE"] == ("5", "MB")
    assert values["UTILITIES_TIMEOUT"] == ("5", "seconds")
    assert values["WORKLOAD_MANAGER"] == ("Slurm, Grid Engine", "")
    assert Version(values["FIRECREST_VERSION"][0]) >= Version("1.16.0")
    assert values["FILESYSTEMS"][0][0]["mounted"][0] == "/home"


def test_the_caller_is_known_with_and_without_a_system(client: Any, make: Callable[..., Any], system: str) -> None:
    assert client.whoami() == client.whoami(system) == "fcalice"
    assert make("bob").whoami(system) == "fcbob"
    groups = client.groups(system)
    assert groups["user"]["name"] == groups["group"]["name"] == "fcalice"
    assert groups["group"] in groups["groups"]


def test_files_are_listed(client: Any, system: str, home: str) -> None:
    Path(home, ".hidden").touch()
    Path(home, "deep", "ü file").write_bytes(b"123")
    Path(home, "link").symlink_to("deep")
    listed = client.list_files(system, home)
    assert [(entry["name"], entry["type"]) for entry in listed] == [("deep", "d"), ("link", "l")]
    assert set(listed[0]) == {"group", "last_modified", "link_target", "name", "permissions", "size", "type", "user"}
    assert ".hidden" in [entry["name"] for entry in client.list_files(system, home, show_hidden=True)]
    names = {entry["name"]: entry["size"] for entry in client.list_files(system, home, recursive=True)}
    assert names["deep/ü file"] == "3"


@pytest.mark.parametrize("size", [0, 1, 100_000, LIMIT])
def test_a_file_goes_up_and_down_to_the_byte(client: Any, system: str, home: str, tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    if hasattr(client, "runner"):
        # pyfirecrest 3.10.0's asynchronous client fails on every download, from any server, that is not UTF-8
        content = content.hex().encode()[:size]
    (tmp_path / "local.bin").write_bytes(content)
    client.simple_upload(system, tmp_path / "local.bin", home)
    client.simple_upload(system, BytesIO(content), home, filename="other name.bin")
    client.simple_download(system, f"{home}/local.bin", tmp_path / "back.bin")
    memory = BytesIO()
    client.simple_download(system, f"{home}/other name.bin", memory)
    sums = {hashlib.sha256(data).hexdigest() for data in (content, (tmp_path / "back.bin").read_bytes(), memory.getvalue())}
    assert len(sums) == 1
    assert Path(home, "local.bin").stat().st_size == size


def test_a_file_over_the_limit_goes_neither_up_nor_down(client: Any, system: str, home: str, tmp_path: Path) -> None:
    for size in (LIMIT + 1, 4 * LIMIT):
        with pytest.raises(firecrest.FirecrestException) as refused:
            client.simple_upload(system, BytesIO(bytes(size)), home, filename="big")
        assert refused.value.responses[-1].status_code == 413
    Path(home, "big").write_bytes(bytes(LIMIT + 1))
    with pytest.raises(firecrest.FirecrestException) as refused:
        client.simple_download(system, f"{home}/big", tmp_path / "never")
    assert refused.value.responses[-1].headers["X-Size-Limit"] == "File exceeds size limit"
    assert not (tmp_path / "never").exists()
    assert client.whoami(system) == "fcalice", "and the session goes on"


def test_parts_of_a_file_are_shown(client: Any, system: str, home: str) -> None:
    text = "".join(f"line {number} é\n" for number in range(1, 31))
    path = Path(home, "text")
    path.write_text(text)
    lines = text.splitlines(keepends=True)
    assert client.view(system, str(path)) == text
    assert client.head(system, str(path)) == "".join(lines[:10])
    assert client.head(system, str(path), lines="2") == "".join(lines[:2])
    assert client.head(system, str(path), bytes="4") == "line"
    assert client.head(system, str(path), lines="28", skip_ending=True) == "".join(lines[:2])
    assert client.tail(system, str(path)) == "".join(lines[-10:])
    assert client.tail(system, str(path), lines="1") == lines[-1]
    assert client.tail(system, str(path), lines="30", skip_beginning=True) == lines[-1]


def test_a_job_is_submitted_watched_and_cancelled(client: Any, system: str, site: Site) -> None:
    job = client.submit(system, script_str=SLEEP)
    assert job["result"] == "Job submitted"
    assert len(job["firecrest_taskid"]) == 32
    assert job["job_file"].endswith(f"/{job['firecrest_taskid']}/script.batch")

    def listed() -> Any:
        (shown,) = client.poll_active(system, [job["jobid"]])
        return shown if shown["state"] == "RUNNING" else None

    shown = eventually(listed)
    assert (shown["name"], shown["user"], shown["partition"], shown["nodes"]) == ("asleep", "fcalice", "normal", "1")
    assert job["jobid"] in [other["jobid"] for other in client.poll_active(system)]
    assert f"Terminating job {job['jobid']}" in client.cancel(system, job["jobid"])
    eventually(lambda: "normal|CANCELLED" in site.slurm("sacct", "-Xnp", "--format=partition,state", f"--jobs={job['jobid']}"))
    (ended,) = client.poll(system, [job["jobid"]])
    assert (ended["jobid"], ended["user"], ended["partition"]) == (job["jobid"], "fcalice", "normal")
    assert ended["state"].startswith("CANCELLED")


def test_a_script_of_any_origin_is_submitted_with_account_and_environment(
    client: Any, system: str, site: Site, home: str, tmp_path: Path
) -> None:
    script = f"#!/bin/sh\n#SBATCH --output=/dev/null\nprintf '%s' \"$SAID\" >{home}/$SLURM_JOB_ID\n"
    local, remote = tmp_path / "local.sh", Path(home, "remote.sh")
    local.write_text(script)
    remote.write_text(script)
    said = "a,b \"c\" 'd'\ne ü"
    origins = ({"script_local_path": str(local)}, {"script_remote_path": str(remote)})
    jobs = [client.submit(system, **origin, account="projectb", env_vars={"SAID": said})["jobid"] for origin in origins]
    for job in jobs:
        eventually(lambda job=job: "JobState=COMPLETED" in site.slurm("scontrol", "show", "job", job))
        assert Path(home, job).read_text() == said
        assert "Account=projectb" in site.slurm("scontrol", "show", "job", job)
    states = eventually(lambda: [job["state"] for job in client.poll(system, jobs) if job["state"] == "COMPLETED"])
    assert states
    assert client.poll(system, jobs, start_time="2001-01-01", end_time="2001-01-02") == []


def test_pages_of_jobs_are_had(client: Any, system: str, site: Site) -> None:
    words = ("sbatch", "--parsable", "--hold", "--chdir=/home/fcalice", "--output=/dev/null", "--wrap=true")
    jobs = [site.slurm(*words, user="fcalice") for _ in range(3)]
    assert [len(client.poll_active(system, jobs, page_size=2, page_number=number)) for number in (0, 1)] == [2, 1]
    site.slurm("scancel", *jobs)


def test_a_failed_task_is_told_with_slurm_s_words(client: Any, system: str) -> None:
    with pytest.raises(firecrest.FirecrestException) as failed:
        client.submit(system, script_str="#!/bin/sh\n#SBATCH --partition=nowhere\n")
    (task,) = failed.value.responses[-1].json()["tasks"].values()
    assert task["status"] == "400"
    assert "invalid partition specified: nowhere" in task["data"]
    with pytest.raises(firecrest.FirecrestException):
        client.cancel(system, 99999999)


@pytest.mark.parametrize(
    ("call", "kind", "header"),
    [
        (lambda c: c.whoami("elsewhere"), firecrest.HeaderException, "X-Machine-Does-Not-Exist"),
        (lambda c: c.submit("elsewhere", script_str=SLEEP), firecrest.HeaderException, "X-Machine-Does-Not-Exist"),
        (lambda c: c.list_files("cluster", "/missing"), firecrest.HeaderException, "X-Invalid-Path"),
        (lambda c: c.list_files("cluster", "/root"), firecrest.HeaderException, "X-Permission-Denied"),
        (lambda c: c.view("cluster", "/missing"), firecrest.HeaderException, "X-Not-Found"),
        (lambda c: c.head("cluster", "/home"), firecrest.HeaderException, "X-A-Directory"),
        (lambda c: c.mkdir("cluster", "/etc/passwd/x"), firecrest.HeaderException, "X-Not-A-Directory"),
        (lambda c: c.simple_download("cluster", "/missing", BytesIO()), firecrest.HeaderException, "X-Not-Found"),
        (lambda c: c.simple_delete("cluster", "/missing"), firecrest.HeaderException, "X-Invalid-Path"),
        (lambda c: c.submit("cluster", script_remote_path="/missing"), firecrest.HeaderException, "X-Invalid-Path"),
        (lambda c: c.mkdir("cluster", "/home"), firecrest.FirecrestException, "X-Exists"),
        (lambda c: c.list_files("cluster", "/a;b"), firecrest.FirecrestException, None),
        (lambda c: c.poll("cluster", start_time="yesterday"), firecrest.FirecrestException, None),
        (lambda c: c._tasks(["a;b"]), firecrest.FirecrestException, None),
    ],
)
def test_failures_are_the_client_s_own_exceptions(
    client: Any, call: Callable[[Any], Any], kind: type[Exception], header: str | None
) -> None:
    with pytest.raises(kind) as failed:
        call(client)
    answer = failed.value.responses[-1]
    assert type(failed.value) is kind
    assert answer.status_code == 400
    assert header is None or header in answer.headers
    assert answer.json()["description"]
    assert str(failed.value)


def test_whoever_the_system_does_not_know_gets_a_header_too(make: Callable[..., Any], system: str) -> None:
    stranger = make("nobody")
    for call in (lambda: stranger.whoami(system), lambda: stranger.submit(system, script_str=SLEEP), lambda: stranger.poll_active(system)):
        with pytest.raises(firecrest.HeaderException, match="User does not have permissions to access machine"):
            call()


def test_a_wrong_token_is_unauthorized(make: Callable[..., Any], system: str) -> None:
    client = make(auth=SimpleNamespace(get_access_token=lambda: "nonsense"))
    for call in (
        lambda: client.whoami(system),
        client.all_systems,
        lambda: client.simple_upload(system, BytesIO(bytes(LIMIT)), "/tmp", "x"),
    ):
        with pytest.raises(firecrest.UnauthorizedException):
            call()


def test_an_invalid_environment_is_not_found(client: Any, system: str) -> None:
    with pytest.raises(NotFound, match="Failed to submit job"):
        client.submit(system, script_str=SLEEP, env_vars={"not a name": "x"})


def test_tasks_are_listed_by_id_and_unknown_ones_left_out(client: Any, system: str) -> None:
    client.poll_active(system)
    tasks = client._tasks()
    assert tasks
    task = next(iter(tasks.values()))
    assert {"hash_id", "status", "description", "created_at", "updated_at", "user", "service", "data", "system", "task_id"} <= set(task)
    assert set(client._tasks([task["hash_id"], "unknown"])) == {task["hash_id"]}
    assert client._tasks(["unknown"]) == {}
