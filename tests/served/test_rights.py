"""Tokens that do not allow everything: refused before anything is sent to a worker."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient

import api.app  # noqa: F401 (every operation)
from schemas.operation import OPERATIONS, Operation
from schemas.rights import EVERY_RIGHT, Right

CHANGED = [operation for operation in OPERATIONS if operation.route.rights != EVERY_RIGHT]


@pytest.mark.parametrize("operation", CHANGED, ids=lambda operation: operation.task())
def test_a_token_without_the_right_is_refused(client: FlaskClient, operation: type[Operation]) -> None:
    others = " ".join(EVERY_RIGHT - operation.route.rights)
    answer = client.open(operation.route.path, method=operation.route.verb, headers={"Authorization": f"Bearer somebody {others}"})
    words = f"The token does not allow this: it needs the right to {' or '.join(sorted(operation.route.rights))}"
    assert answer.status_code == 403
    assert answer.headers["X-Permission-Denied"] == "User does not have permissions to access machine or path"
    if operation.route.fails_is_error:
        assert answer.json == {"error": operation.route.fails}
    else:
        assert answer.json == {"description": operation.route.fails, "error": words}


@pytest.mark.parametrize("right", Right)
def test_a_right_allows_its_own_operations_only(client: FlaskClient, tmp_path: Path, right: Right) -> None:
    bearer = {"Authorization": f"Bearer somebody {right}"}
    (tmp_path / "file").touch()
    calls = {
        Right.READ: client.get("/utilities/ls", query_string={"targetPath": str(tmp_path)}, headers=bearer),
        Right.WRITE: client.post("/utilities/mkdir", data={"targetPath": str(tmp_path / "made")}, headers=bearer),
        Right.SUBMIT: client.post("/storage/xfer-internal/rm", data={"targetPath": str(tmp_path / "none")}, headers=bearer),
        Right.ADMIN: client.put("/utilities/chown", data={"targetPath": str(tmp_path / "file"), "group": "root"}, headers=bearer),
    }
    assert {one: answer.status_code == 403 for one, answer in calls.items()} == {one: one is not right for one in calls}
    assert (tmp_path / "made").exists() == (right is Right.WRITE)
    assert client.get("/utilities/whoami", headers=bearer).status_code == 200
    assert client.get("/tasks", headers=bearer).status_code == 200
