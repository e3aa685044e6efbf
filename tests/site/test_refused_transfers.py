"""Transfers that are refused before there is a task."""

from typing import Any

import pytest

from tests.real_site import Client, Site, told
from tests.site.conftest import Folder
from tests.site.transfers import DOWNLOAD, UPLOAD, names

pytestmark = pytest.mark.usefixtures("no_task_is_made")

REFUSED = [
    ({"sourcePath": "a"}, {"error": "'targetPath' not specified"}, {}),
    ({"targetPath": "", "sourcePath": "a"}, {"error": "'targetPath' is empty"}, {}),
    ({"targetPath": "a;b", "sourcePath": ""}, {"error": "'targetPath' has invalid char"}, {}),
    ({"targetPath": "{home}"}, {"error": "'sourcePath' not specified"}, {}),
    ({"targetPath": "{home}", "sourcePath": "a'b"}, {"error": "'sourcePath' has invalid char"}, {}),
    ({"targetPath": "{home}", "sourcePath": "a\nb"}, {"error": "'sourcePath' has invalid char"}, {}),
    ({"targetPath": "{home}", "sourcePath": "dir/"}, {"error": "'sourcePath' is not the name of a file"}, {}),
    ({"targetPath": "{home}", "sourcePath": "x" * 4097}, {"error": "'sourcePath' is too long"}, {}),
    ({"targetPath": "{home}", "sourcePath": ".."}, {"error": "'sourcePath' is not the name of a file"}, {}),
    ({"targetPath": "{home}", "sourcePath": "a", "multipart": "true"}, {"error": "'size' not specified"}, {}),
    ({"targetPath": "{home}", "sourcePath": "a", "size": "-1"}, {"error": "'size' is not a whole number"}, {}),
    (
        {"targetPath": "{home}/no/where", "sourcePath": "a"},
        {"error": "'targetPath' directory not allowed"},
        {"X-Invalid-Path": "{home}/no is an invalid path."},
    ),
    (
        {"targetPath": "/etc", "sourcePath": "a"},
        {"error": "'targetPath' directory not allowed"},
        {"X-Permission-Denied": "User does not have permissions to access machine or path"},
    ),
    (
        {"targetPath": "{home}/text/below", "sourcePath": "a"},
        {"error": "'targetPath' directory not allowed"},
        {"X-Not-A-Directory": "{home}/text is not a directory"},
    ),
]


@pytest.mark.parametrize(("form", "body", "headers"), REFUSED)
def test_an_upload_is_refused_in_the_contracts_words(alice: Client, folder: Folder, form: Any, body: Any, headers: Any) -> None:
    folder.file("text", b"x")
    answer = alice.post(UPLOAD, data={name: value.format(home=folder.path) for name, value in form.items()})

    assert answer.status_code == 400
    assert answer.json() == {"description": "Failed to upload file", **body}
    assert told(answer.headers) == {name: value.format(home=folder.path) for name, value in headers.items()}
    assert names(folder.path) == ["text"]


def test_a_download_is_refused_in_the_contracts_words(alice: Client, folder: Folder) -> None:
    secret = folder.file("secret", mode=0o000)
    cases = {
        f"{folder.path}/missing": ("X-Invalid-Path", f"{folder.path}/missing is an invalid path."),
        folder.path: ("X-A-Directory", f"{folder.path} is a directory"),
        secret: ("X-Permission-Denied", "User does not have permissions to access machine or path"),
    }
    for path, (name, value) in cases.items():
        answer = alice.post(DOWNLOAD, data={"sourcePath": path})
        assert (answer.status_code, answer.json(), answer.headers[name]) == (400, {"description": "sourcePath error"}, value)
    cases = {
        "": "'sourcePath' is empty",
        "it's": "'sourcePath' has invalid char",
        'a"b': "'sourcePath' has invalid char",
        "a\nb": "'sourcePath' has invalid char",
        "a;b": "'sourcePath' has invalid char",
        "dir/": "'sourcePath' is not the name of a file",
    }
    for path, error in cases.items():
        answer = alice.post(DOWNLOAD, data={"sourcePath": path})
        assert (answer.status_code, answer.json()) == (400, {"description": "Failed to download file", "error": error})
    empty = alice.post(DOWNLOAD)
    assert (empty.status_code, empty.json()) == (400, {"description": "Failed to download file", "error": "'sourcePath' not specified"})


@pytest.mark.parametrize("path", [UPLOAD, DOWNLOAD])
def test_the_system_must_be_named_and_known(alice: Client, path: str) -> None:
    unnamed = alice.post(path, headers={"X-Machine-Name": ""})
    unknown = alice.post(path, headers={"X-Machine-Name": "nowhere"})

    assert (unnamed.status_code, unnamed.json()) == (400, {"description": "No machine name given"})
    assert (unknown.status_code, unknown.json()) == (400, {"description": "Failed operation", "error": "Machine does not exists"})
    assert unknown.headers["X-Machine-Does-Not-Exist"] == "Machine does not exist"
    assert unknown.headers["X-Machine-Does-Not-Exists"] == "Machine does not exists"


def test_a_user_who_is_not_let_in_gets_404(site: Site) -> None:
    answer = Client(site, "nobody").post(DOWNLOAD, data={"sourcePath": "/etc/hostname"})

    assert (answer.status_code, answer.json()) == (404, {"description": "sourcePath error"})
    assert "X-Permission-Denied" in answer.headers
