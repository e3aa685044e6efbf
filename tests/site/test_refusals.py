"""Calls that are refused before anything is done: their words, and that they leave no task behind (contract, 1.1, 1.2.2, 1.4)."""

from typing import Any

import pytest
from requests import Response

from tests.real_site import Client, Site, told
from tests.site.conftest import Folder

LIMIT = 5 * 1024 * 1024
NO_ENVIRONMENTS = (
    *("", "{", "nonsense", '{"A": 1', '["A"]', '"A"', "1", "null", "[" * 100_000),
    *('{"A": {"B": 1}}', '{"A": null}', '{"A": true}', '{"A": NaN}', '{"A": Infinity}', '{"A": "\\u0000"}', '{"A": "\\ud800"}'),
    *('{"1A": "x"}', '{"A B": "x"}', '{"": "x"}', '{"A=B": "x"}'),
)
ON_SYSTEM = (
    ("GET", "/utilities/ls", "Error on ls operation"),
    ("GET", "/utilities/file", "Error on file operation"),
    ("GET", "/utilities/stat", "Error on stat operation"),
    ("GET", "/utilities/checksum", "Error on checksum operation"),
    ("GET", "/utilities/head", "Error on head operation"),
    ("GET", "/utilities/tail", "Error on tail operation"),
    ("GET", "/utilities/view", "Error on fsize operation"),
    ("GET", "/utilities/whoami", "Error on whoami operation"),
    ("GET", "/utilities/download", "Error on fsize operation"),
    ("POST", "/utilities/upload", "Error on upload operation"),
    ("POST", "/utilities/mkdir", "Error on mkdir operation"),
    ("PUT", "/utilities/rename", "Error on rename operation"),
    ("POST", "/utilities/copy", "Error on copy operation"),
    ("PUT", "/utilities/chmod", "Error on chmod operation"),
    ("PUT", "/utilities/chown", "Error on chown operation"),
    ("POST", "/utilities/symlink", "Error on symlink operation"),
    ("POST", "/utilities/compress", "Error on compress operation"),
    ("POST", "/utilities/extract", "Error on extract operation"),
    ("DELETE", "/utilities/rm", "Error on rm operation"),
    ("POST", "/compute/jobs/upload", "Failed to submit job file"),
    ("POST", "/compute/jobs", "Failed to submit job file"),
    ("POST", "/compute/jobs/path", "Failed to submit job"),
    ("GET", "/compute/jobs", "Failed to retrieve jobs information"),
    ("GET", "/compute/jobs/1", "Failed to retrieve job information"),
    ("DELETE", "/compute/jobs/1", "Failed to delete job"),
    ("GET", "/compute/acct", "Failed to retrieve account information"),
    ("GET", "/compute/nodes", "Failed to retrieve account information"),
    ("GET", "/compute/nodes/n1", "Failed to retrieve account information"),
    ("GET", "/compute/partitions", "Failed to retrieve account information"),
    ("GET", "/compute/reservations", "Failed to retrieve account information"),
    *(("POST", f"/storage/xfer-internal/{name}", "Failed operation") for name in ("cp", "mv", "rsync", "rm", "compress", "extract")),
)
ON_PATH = [row for row in ON_SYSTEM if row[1].startswith("/utilities") and row[1] not in ("/utilities/whoami", "/utilities/download")]
FORBIDDEN = [*"<>|;\"'&\\()`", "\0", "\n", "\r", "\t", "\x1f"]

pytestmark = pytest.mark.usefixtures("no_task_is_made")


def refused(answer: Response, *, status: int = 400, header: tuple[str, str] | None = None, **body: str) -> None:
    """The answer has just this status, this body, and this header of a failure."""
    assert (answer.status_code, answer.json()) == (status, body)
    assert told(answer.headers) == dict([header] if header else [])


def asked(client: Client, verb: str, path: str, **values: Any) -> Response:
    """A call with its parameters where the verb has them."""
    return client.request(verb, path, **{"params" if verb == "GET" else "data": values})


@pytest.mark.parametrize(("verb", "path", "description"), ON_SYSTEM)
def test_an_unknown_system_is_named_in_both_spellings(alice: Client, verb: str, path: str, description: str) -> None:
    answer = alice.request(verb, path, headers={"X-Machine-Name": "elsewhere"})
    error = "Machine does not exists" if path.startswith(("/compute", "/storage")) else "Machine does not exist"
    assert (answer.status_code, answer.json()) == (400, {"description": description, "error": error})
    assert answer.headers["X-Machine-Does-Not-Exist"] == "Machine does not exist"
    assert answer.headers["X-Machine-Does-Not-Exists"] == "Machine does not exists"


@pytest.mark.parametrize(("verb", "path", "_description"), ON_SYSTEM)
@pytest.mark.parametrize("header", [None, ""], ids=["missing", "empty"])
def test_a_call_without_system_is_refused(alice: Client, verb: str, path: str, _description: str, header: str | None) -> None:
    answer = alice.request(verb, path, headers={"X-Machine-Name": header})
    if path == "/compute/jobs/path":
        refused(answer, description="Failed to submit job", error="No machine name given")
    else:
        refused(answer, description="No machine name given")


@pytest.mark.parametrize(("verb", "path", "description"), ON_PATH)
def test_a_call_of_utilities_wants_a_path(alice: Client, verb: str, path: str, description: str) -> None:
    name = "sourcePath" if path in ("/utilities/stat", "/utilities/view") else "targetPath"
    refused(asked(alice, verb, path), description=description, error=f"'{name}' not specified")
    refused(asked(alice, verb, path, targetPath=""), description=description, error="'targetPath' is empty")


@pytest.mark.parametrize(("verb", "path", "description"), ON_PATH)
def test_forbidden_characters_in_a_path_are_refused(alice: Client, verb: str, path: str, description: str) -> None:
    for character in FORBIDDEN:
        answer = asked(alice, verb, path, targetPath=f"/home/fcalice/a{character}b")
        refused(answer, description=description, error="'targetPath' has invalid char")


def test_a_download_wants_a_source_path(alice: Client) -> None:
    for values, reason in (({}, "not specified"), ({"sourcePath": ""}, "is empty"), ({"sourcePath": "/a|b"}, "has invalid char")):
        refused(alice.get("/utilities/download", params=values), description="Error on fsize operation", error=f"'sourcePath' {reason}")


@pytest.mark.parametrize(
    ("values", "reason"), [({}, "not specified"), ({"sourcePath": ""}, "is empty"), ({"sourcePath": "/a|b"}, "has invalid char")]
)
@pytest.mark.parametrize(("verb", "name"), [("PUT", "rename"), ("POST", "copy"), ("POST", "compress"), ("POST", "extract")])
def test_what_has_a_source_wants_its_path_after_the_target_s(
    alice: Client, verb: str, name: str, values: dict[str, str], reason: str
) -> None:
    def call(**more: str) -> Response:
        return alice.request(verb, f"/utilities/{name}", data={**values, **more})

    description = f"Error on {name} operation"
    refused(call(targetPath="/tmp/x"), description=description, error=f"'sourcePath' {reason}")
    refused(call(), description=description, error="'targetPath' not specified")


def test_the_status_of_a_source_path_wants_a_harmless_one(alice: Client) -> None:
    for path, reason in (("", "is empty"), ("/a|b", "has invalid char")):
        answer = alice.get("/utilities/stat", params={"sourcePath": path})
        refused(answer, description="Error on stat operation", error=f"'sourcePath' {reason}")


def test_a_mode_passes_the_input_check(alice: Client) -> None:
    for values, reason in (({}, "not specified"), ({"mode": ""}, "is empty"), ({"mode": "7;0"}, "has invalid char")):
        answer = alice.put("/utilities/chmod", data={"targetPath": "/tmp/x", **values})
        refused(answer, description="Error on chmod operation", error=f"'mode' {reason}")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "must be set"),
        ({"owner": "", "group": ""}, "must be set"),
        ({"owner": "a;b"}, "has invalid char"),
        ({"group": "a;b"}, "has invalid char"),
        ({"owner": "fcalice", "group": "$(id)"}, "has invalid char"),
        ({"owner": "a|b", "group": ""}, "has invalid char"),
    ],
)
def test_an_owner_or_a_group_is_wanted(alice: Client, values: dict[str, str], reason: str) -> None:
    answer = alice.put("/utilities/chown", data={"targetPath": "/tmp/x", **values})
    refused(answer, description="Error in chown operation", error=f"group or owner {reason}")


def test_a_link_wants_a_path(alice: Client) -> None:
    for values, reason in (({}, "not specified"), ({"linkPath": ""}, "is empty"), ({"linkPath": "/a;b"}, "has invalid char")):
        answer = alice.post("/utilities/symlink", data={"targetPath": "/tmp/x", **values})
        refused(answer, description="Failed to create symlink", error=f"'linkPath' value {reason}")


@pytest.mark.parametrize("program", ["head", "tail"])
def test_a_part_is_counted_in_lines_or_in_bytes(alice: Client, program: str) -> None:
    def part(**values: str) -> Response:
        return alice.get(f"/utilities/{program}", params={"targetPath": "/etc/passwd", **values})

    description = f"Error on {program} operation"
    refused(part(lines="1", bytes="1"), description=description, error="Can not specify both 'bytes' and 'lines'")
    refused(part(lines="1;2"), description=description, error="'lines' has invalid char")
    refused(part(bytes="$(id)"), description=description, error="'bytes' has invalid char")
    assert part(lines="x").status_code == 400


def test_an_upload_wants_a_file_with_a_harmless_name(alice: Client, folder: Folder) -> None:
    def upload(**files: Any) -> Response:
        return alice.post("/utilities/upload", data={"targetPath": folder.path}, files=files or None)

    description = "Failed to upload file"
    refused(upload(), description=description, error="No file in query")
    refused(upload(other=("a", b"x")), description=description, error="No file in query")
    refused(upload(file=("a;b", b"x")), description=description, error="Filename has invalid char")
    refused(
        alice.post("/utilities/upload", data={"targetPath": folder.path, "file": "text"}), description=description, error="No file in query"
    )


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 100_000, 4 * LIMIT])
def test_a_file_over_the_limit_is_too_large(alice: Client, folder: Folder, size: int) -> None:
    answer = alice.post("/utilities/upload", data={"targetPath": folder.path}, files={"file": ("big", bytes(size))})
    refused(answer, status=413, description=f"Failed to upload file. The file is over {LIMIT} bytes")


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 100_000, 4 * LIMIT])
@pytest.mark.parametrize("path", ["/compute/jobs/upload", "/compute/jobs"])
def test_a_script_over_the_limit_is_too_large(alice: Client, path: str, size: int) -> None:
    answer = alice.post(path, files={"file": ("big.sh", b"#!/bin/sh\n".ljust(size, b"#"))})
    refused(answer, status=413, description="Failed to upload batch script. The file is over 5 MB")


@pytest.mark.parametrize("path", ["/compute/jobs/upload", "/compute/jobs"])
def test_a_submission_wants_a_script(alice: Client, path: str) -> None:
    def submission(**files: Any) -> Response:
        return alice.post(path, files=files or None, data={"account": "projecta"})

    description = "Failed to submit job file"
    refused(submission(), description=description, error="No batch file part")
    refused(submission(other=("a.sh", b"x")), description=description, error="No batch file part")
    refused(submission(file=("", b"#!/bin/sh\n")), description=description, error="No batch file selected")
    refused(submission(file=("a.sh", b"")), description=description, error="Batch file is empty")


SCRIPT = {"file": ("a.sh", b"#!/bin/sh\n")}


@pytest.mark.parametrize(("account", "reason"), [("", "is empty"), ("a;b", "has invalid char"), ("a b&", "has invalid char")])
def test_an_account_passes_the_input_check(alice: Client, account: str, reason: str) -> None:
    words = {"description": "Invalid account", "error": f"'account' {reason}"}
    refused(alice.post("/compute/jobs/upload", files=SCRIPT, data={"account": account}), **words)
    refused(alice.post("/compute/jobs/path", data={"account": account, "targetPath": "/etc/passwd"}), **words)


@pytest.mark.parametrize("text", NO_ENVIRONMENTS, ids=lambda text: text[:16])
def test_an_environment_that_is_not_json_is_refused(alice: Client, folder: Folder, text: str) -> None:
    answer = alice.post("/compute/jobs/upload", files=SCRIPT, data={"env": text})
    said = answer.json()
    assert (answer.status_code, said["description"]) == (404, "Failed to submit job")
    assert said["error"].startswith("Invalid JSON in 'env' variable (")
    assert said["error"].endswith(")")

    script = folder.file("job.sh", b"#!/bin/sh\n")
    answer = alice.post("/compute/jobs/path", data={"targetPath": script, "env": text})
    refused(answer, status=404, description="Failed to submit job", error="Invalid JSON environment provided")


def test_a_path_to_submit_passes_the_input_check(alice: Client) -> None:
    for values, reason in (({}, "not specified"), ({"targetPath": ""}, "is empty"), ({"targetPath": "/a;b"}, "has invalid char")):
        refused(alice.post("/compute/jobs/path", data=values), description="Failed to submit job", error=f"'targetPath' {reason}")


def test_a_path_to_submit_leads_to_a_file_that_can_be_read(alice: Client, folder: Folder) -> None:
    closed = folder.file("closed.sh", b"#!/bin/sh\n", mode=0)
    missing = f"{folder.path}/missing.sh"
    through = f"{folder.file('file')}/x"
    denied = ("X-Permission-Denied", "User does not have permissions to access machine or path")
    cases = (
        (folder.path, ("X-A-Directory", f"{folder.path} is a directory")),
        (closed, denied),
        ("/root/job.sh", denied),
        (missing, ("X-Invalid-Path", f"{missing} is an invalid path.")),
    )
    for path, header in cases:
        refused(alice.post("/compute/jobs/path", data={"targetPath": path}), description="Failed to submit job", header=header)
    assert alice.post("/compute/jobs/path", data={"targetPath": through}).status_code == 400


@pytest.mark.parametrize(
    ("jobs", "error"),
    [
        ("", "'jobs' is empty"),
        ("1;2", "'jobs' has invalid char"),
        ("1,,2", "Jobs list wrong format"),
        (",", "Jobs list wrong format"),
        ("1,x", "x is not a valid job ID"),
        ("-1", "-1 is not a valid job ID"),
        ("1_", "1_ is not a valid job ID"),
        ("1.0", "1.0 is not a valid job ID"),
        ("٣", "٣ is not a valid job ID"),
    ],
)
def test_job_ids_are_checked(alice: Client, jobs: str, error: str) -> None:
    refused(alice.get("/compute/jobs", params={"jobs": jobs}), description="Failed to retrieve job information", error=error)


def test_the_id_of_one_job_is_checked(alice: Client) -> None:
    for job in ("x", "1;2", "1,2", "1.0"):
        words = {"description": "Failed to retrieve job information", "error": f"{job} is not a valid job ID"}
        refused(alice.get(f"/compute/jobs/{job}"), **words)
    refused(alice.delete("/compute/jobs/1;2"), description="Failed to delete job", error="'jobid' has invalid char")
    refused(alice.get("/compute/acct?jobs=1;2"), description="Failed to retrieve account information", error="'jobs' has invalid char")


@pytest.mark.parametrize("path", ["/compute/jobs", "/compute/acct"])
def test_a_page_holds_at_least_one_job(alice: Client, path: str) -> None:
    for size in ("0", "-1"):
        answer = alice.get(path, params={"pageSize": size, "pageNumber": "0"})
        assert (answer.status_code, answer.json()["error"]) == (400, "'pageSize' must be greater than 0")


@pytest.mark.parametrize("name", ["starttime", "endtime"])
@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-11-22 10:00", "2026-11-22T25:00", "now-1days", "1;2", "99:99", "--help"])
def test_a_wrong_time_is_told(alice: Client, name: str, text: str) -> None:
    answer = alice.get("/compute/acct", params={name: text})
    assert (answer.status_code, answer.json()["description"]) == (400, "Failed to retrieve account information")
    assert answer.json()["error"] == (f"'{name}' has invalid char" if ";" in text else f"'{text}' is not a valid time format")


@pytest.mark.parametrize("path", ["/compute/jobs/upload", "/compute/jobs/path"])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("time", "1:99", "Not supported time format"),
        ("nodes", "many", "'nodes' is not a number of nodes, or a range such as 2-4"),
        ("jobName", "a;b", "'jobName' has invalid char"),
        ("constraint", "a b; id", "'constraint' is not a constraint"),
        ("cpusPerTask", "0", "'cpusPerTask' is not greater than 0"),
    ],
)
def test_what_no_job_can_ask_for_is_refused(alice: Client, path: str, name: str, value: str, error: str) -> None:
    files = SCRIPT if path.endswith("upload") else {}
    answer = alice.post(path, files=files, data={"targetPath": "/etc/passwd", name: value})
    refused(answer, description=f"Invalid {name}", error=error)


@pytest.mark.parametrize("name", ["nobody", "root"])
def test_whoever_may_not_enter_is_denied(site: Site, name: str) -> None:
    client = Client(site, name)
    words = "User does not have permissions to access machine"
    header = ("X-Permission-Denied", words)
    refused(client.get("/utilities/whoami"), description="Error on whoami operation", error=words, header=header)
    hidden = ("X-Permission-Denied", "User does not have permissions to access machine or path")
    for answer in (client.get("/compute/jobs"), client.post("/compute/jobs", files=SCRIPT)):
        refused(answer, status=404, description="Failed to retrieve jobs information", header=hidden)
    assert client.get("/tasks").json() == {"tasks": {}}
