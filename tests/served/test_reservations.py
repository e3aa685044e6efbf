"""Reservations by a command of the site, through API, broker and worker."""

from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

MACHINE = {"X-Machine-Name": "tooled"}
EXTENT = {"numberOfNodes": "2", "nodeType": "gpu", "starttime": "2035-01-01T00:00:00", "endtime": "2035-01-02T00:00:00"}


def create(client: FlaskClient, name: str) -> TestResponse:
    return client.post("/reservations", headers=MACHINE, data={"reservation": name, "account": "proj", **EXTENT})


def listed(client: FlaskClient) -> Any:
    return client.get("/reservations", headers=MACHINE).json


def test_the_command_of_the_site_manages_reservations(client: FlaskClient) -> None:
    assert listed(client) == {"success": []}

    answer = create(client, "$a-1")
    assert (answer.status_code, answer.json) == (201, {"success": "added $a-1 for proj"})
    record = {"reservationname": "$a-1", "starttime": EXTENT["starttime"], "endtime": EXTENT["endtime"], "nodecnt": "2", "features": "gpu"}
    assert listed(client) == {"success": [{**record, "accounts": "proj", "tres": "cpu=2"}]}

    answer = client.put("/reservations/$a-1", headers=MACHINE, data={**EXTENT, "nodeType": "big", "numberOfNodes": "3"})
    assert (answer.status_code, answer.json) == (200, {"success": "changed $a-1"})
    assert listed(client) == {"success": [{**record, "nodecnt": "3", "features": "big", "accounts": "kept", "tres": "cpu=2"}]}

    answer = client.delete("/reservations/$a-1", headers=MACHINE)
    assert (answer.status_code, answer.data) == (204, b"")
    assert listed(client) == {"success": []}


def test_what_the_command_says_is_told_without_the_names_of_programs(client: FlaskClient) -> None:
    answer = create(client, "wrong")
    told = {"error": "Error creating reservation", "description": "Error in the nodes: too many"}
    assert (answer.status_code, answer.json, "X-Error" in answer.headers) == (400, told, False)

    answer = client.put("/reservations/missing", headers=MACHINE, data=EXTENT)
    assert (answer.status_code, answer.json) == (400, {"error": "Error updating reservation", "description": "there is no missing"})


def test_whom_the_command_does_not_allow_is_denied(client: FlaskClient) -> None:
    answer = client.delete("/reservations/forbidden", headers=MACHINE)
    assert (answer.status_code, answer.json) == (404, {"error": "Error deleting reservation"})
    assert answer.headers["X-Permission-Denied"] == "User does not have permissions to access machine or path"


def test_a_command_that_takes_too_long_is_ended(client: FlaskClient) -> None:
    answer = client.delete("/reservations/slow", headers=MACHINE)
    assert (answer.status_code, answer.json) == (400, {"error": "Error deleting reservation"})
    assert answer.headers["X-Timeout"] == "Command has finished with timeout signal"
