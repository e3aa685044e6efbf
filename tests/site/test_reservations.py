"""Reservations in a real Slurm, and the words of refusals (contract, 1.9)."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from requests import Response

from tests.real_site import Client, Site, told

# Far off, and one of its own for every use: nodes that are reserved take no job which lasts into the reservation.
START, END = "2035-01-01T00:00:00", "2035-01-02T12:30:00"
DENIED = ("X-Permission-Denied", "User does not have permissions to access machine or path")
HOSTILE = ("Upper", "1st", "-a", "a b", "a;b", "a'b", "a\n", "a\nb", "a=b", "a,b", "a&b", "é", "a\x00", "$(id)", "`id`", "a/b", "")

NO_TIMES = (
    *("", "now", "tomorrow", "2035-01-01", "2035-01-01T00:00", "2035-01-01 00:00:00", "2035-1-1T00:00:00", "2035-02-30T00:00:00"),
    *("2035-01-01T24:00:00", "2035-01-01T00:00:00Z", "2035-01-01T00:00:00\n", "0000-01-01T00:00:00", "٢٠٣٥-01-01T00:00:00"),
)


@pytest.fixture
def name(site: Site) -> Iterator[str]:
    """A name for reservations, which are gone after the test."""
    unique = f"test$-{uuid4().hex[:8]}"
    yield unique
    for found in site.slurm("scontrol", "--all", "--oneliner", "show", "reservations").split():
        if found.startswith(f"ReservationName={unique}"):
            site.slurm("scontrol", "delete", found)


@pytest.fixture
def shown(site: Site) -> Callable[[str], str]:
    """What Slurm itself shows of a reservation; nothing when there is none."""

    def show(name: str) -> str:
        lines = site.slurm("scontrol", "--all", "--oneliner", "show", "reservations").splitlines()
        return next((line for line in lines if line.startswith(f"ReservationName={name} ")), "")

    return show


def form(name: str, **changes: Any) -> dict[str, Any]:
    """What a reservation is created with; None leaves a value out."""
    values = {"reservation": name, "account": "projecta", "numberOfNodes": "1", "nodeType": "gpu", "starttime": START, "endtime": END}
    return {key: value for key, value in {**values, **changes}.items() if value is not None}


def refused(
    answer: Response, error: str, description: str | None = None, *, status: int = 400, header: tuple[str, str] | None = None
) -> None:
    """The answer has just this status, this body, and this header of a failure."""
    assert (answer.status_code, answer.json()) == (status, {"error": error} | ({"description": description} if description else {}))
    assert told(answer.headers) == dict([header] if header else [])


def listed(client: Client, name: str, *, path: str = "/reservations") -> dict[str, str]:
    """The reservation in the list."""
    answer = client.get(path)
    assert (answer.status_code, set(answer.json())) == (200, {"success"})
    (found,) = [one for one in answer.json()["success"] if one["reservationname"] == name]
    return dict(found)


def test_a_reservation_is_created_listed_updated_and_deleted(dave: Client, alice: Client, name: str, shown: Callable[[str], str]) -> None:
    answer = dave.post("/reservations", data=form(name, nodeType="multicore"))
    assert (answer.status_code, answer.json()) == (201, {"success": f"Reservation created: {name}"})
    for fact in (f"StartTime={START}", f"EndTime={END}", "NodeCnt=1 ", "Features=multicore", "Accounts=projecta"):
        assert fact in shown(name)

    for client, path in ((dave, "/reservations"), (alice, "/reservations/")):
        found = listed(client, name, path=path)
        assert (found["starttime"], found["endtime"], found["nodecnt"], found["features"]) == (START, END, "1", "multicore")
        assert (found["accounts"], found["tres"], found["state"], found["users"]) == ("projecta", "cpu=16", "INACTIVE", "(null)")

    later = {"numberOfNodes": "2", "nodeType": "multicore", "starttime": "2035-02-01T00:00:00", "endtime": "2035-02-02T00:00:00"}
    answer = dave.put(f"/reservations/{name}", data=later)
    assert (answer.status_code, answer.json()) == (200, {"success": "Reservation updated."})
    for fact in ("StartTime=2035-02-01T00:00:00", "EndTime=2035-02-02T00:00:00", "NodeCnt=2 ", "Features=multicore"):
        assert fact in shown(name)

    answer = dave.delete(f"/reservations/{name}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert shown(name) == ""


def test_the_path_may_end_in_a_slash(dave: Client, name: str, shown: Callable[[str], str]) -> None:
    assert dave.post("/reservations/", data=form(name)).status_code == 201
    assert dave.put(f"/reservations/{name}/", data=form(name)).status_code == 200
    assert dave.delete(f"/reservations/{name}/").status_code == 204
    assert shown(name) == ""


def test_without_reservations_the_list_is_empty(alice: Client, shown: Callable[[str], str], site: Site) -> None:
    if site.slurm("scontrol", "--all", "--oneliner", "show", "reservations") != "No reservations in the system":
        pytest.fail("another test left a reservation behind")
    assert alice.get("/reservations").json() == {"success": []}


@pytest.mark.parametrize("name_of", ["alice", "bob", "carol"])
def test_whom_slurm_does_not_allow_is_denied(site: Site, dave: Client, name: str, name_of: str, shown: Callable[[str], str]) -> None:
    client = Client(site, name_of)
    refused(client.post("/reservations", data=form(name)), "Error creating reservation", status=404, header=DENIED)
    assert shown(name) == ""
    assert dave.post("/reservations", data=form(name)).status_code == 201
    before = shown(name)
    longer = form(name, endtime="2036-01-01T00:00:00")
    refused(client.put(f"/reservations/{name}", data=longer), "Error updating reservation", status=404, header=DENIED)
    refused(client.delete(f"/reservations/{name}"), "Error deleting reservation", status=404, header=DENIED)
    assert shown(name) == before


@pytest.mark.parametrize("name_of", ["nobody", "root"])
def test_who_may_not_enter_is_denied(site: Site, name_of: str, name: str) -> None:
    client = Client(site, name_of)
    refused(client.get("/reservations"), "Error listing reservations", status=404, header=DENIED)
    refused(client.post("/reservations", data=form(name)), "Error creating reservation", status=404, header=DENIED)
    refused(client.put(f"/reservations/{name}", data=form(name)), "Error updating reservation", status=404, header=DENIED)
    refused(client.delete(f"/reservations/{name}"), "Error deleting reservation", status=404, header=DENIED)


def test_what_slurm_refuses_is_told_in_its_words(dave: Client, name: str, shown: Callable[[str], str]) -> None:
    def creating(text: str, **changes: str) -> None:
        answer = dave.post("/reservations", data=form(name, **changes))
        refused(answer, "Error creating reservation", f"Error creating the reservation: {text}")

    creating("Invalid feature specification", nodeType="steam")
    creating("Invalid account or account/partition combination specified", account="nobodys")
    creating("Requested node configuration is not available", numberOfNodes="99")
    assert shown(name) == ""
    assert dave.post("/reservations", data=form(name)).status_code == 201
    creating("Duplicate reservation name", starttime="2035-03-01T00:00:00", endtime="2035-03-02T00:00:00")


def test_an_unknown_reservation_is_told_in_slurms_words(dave: Client, name: str) -> None:
    answer = dave.put(f"/reservations/{name}", data=form(name))
    text = "Error updating the reservation: Requested reservation is invalid\nslurm_update error: Requested reservation is invalid"
    refused(answer, "Error updating reservation", text)
    answer = dave.delete(f"/reservations/{name}")
    refused(answer, "Error deleting reservation", f"delete_reservation ReservationName={name}: Requested reservation is invalid")


def test_the_node_type_of_a_reservation_stays(dave: Client, name: str, shown: Callable[[str], str]) -> None:
    assert dave.post("/reservations", data=form(name)).status_code == 201
    before = shown(name)
    answer = dave.put(f"/reservations/{name}", data=form(name, nodeType="multicore"))
    told = "'nodeType' of a reservation cannot be changed (it is 'gpu'): delete the reservation and create another"
    refused(answer, "Error updating reservation", told)
    assert shown(name) == before


def both(client: Client, name: str, description: str, **changes: Any) -> None:
    """POST and PUT refuse the change of the form, each in its words."""
    values = form(name, **changes)
    refused(client.post("/reservations", data=values), "Error creating reservation", description)
    refused(client.put(f"/reservations/{name}", data=values), "Error updating reservation", description)


def test_every_value_must_be_there(dave: Client, name: str) -> None:
    for field in ("numberOfNodes", "nodeType", "starttime", "endtime"):
        both(dave, name, f"'{field}' form data input missing", **{field: None})
    for field in ("reservation", "account"):
        answer = dave.post("/reservations", data=form(name, **{field: None}))
        refused(answer, "Error creating reservation", f"'{field}' form data input missing")
    refused(dave.post("/reservations"), "Error creating reservation", "'reservation' form data input missing")
    refused(dave.post("/reservations", data={"reservation": "A"}), "Error creating reservation", "'account' form data input missing")


@pytest.mark.parametrize("text", HOSTILE)
def test_names_are_checked(dave: Client, name: str, text: str) -> None:
    def told(field: str) -> str:
        return f"'{field}' parameter format is not valid (value entered:'{text}')"

    both(dave, name, told("nodeType"), nodeType=text)
    for field in ("reservation", "account"):
        refused(dave.post("/reservations", data=form(name, **{field: text})), "Error creating reservation", told(field))
    if text not in ("", "a/b"):
        path = "/reservations/" + "".join(f"%{byte:02x}" for byte in text.encode())
        refused(dave.put(path, data=form(name)), "Error updating reservation", told("reservation"))
        refused(dave.delete(path), "Error deleting reservation", told("reservation"))


@pytest.mark.parametrize("text", ["0", "000", "-1", "+1", "1.0", "one", "", "1 ", "1\n", "٣", "1e3", "99999999999", "1-2", "1k"])
def test_the_number_of_nodes_is_checked(dave: Client, name: str, text: str) -> None:
    told = f"'numberOfNodes' parameter is not valid. It should be an integer > 0 (value entered:'{text}')"
    both(dave, name, told, numberOfNodes=text)


@pytest.mark.parametrize("field", ["starttime", "endtime"])
@pytest.mark.parametrize("text", NO_TIMES)
def test_times_are_checked(dave: Client, name: str, field: str, text: str) -> None:
    told = f"'{field}' parameter format is not valid. It should be YYYY-MM-DDTHH:MM:SS (value entered:'{text}')"
    both(dave, name, told, **{field: text})


@pytest.mark.parametrize("end", [START, "2034-12-31T23:59:59", "2001-01-01T00:00:00"])
def test_the_end_is_after_the_start(dave: Client, name: str, end: str) -> None:
    both(dave, name, f"'endtime' occurs before 'starttime' (values entered: endtime='{end}' <= starttime='{START}')", endtime=end)


def test_the_start_is_not_over(dave: Client, name: str) -> None:
    over = "2026-01-01T00:00:00"
    both(dave, name, f"'starttime' is in the pass (values entered: starttime='{over}')", starttime=over)


def test_values_are_checked_in_the_order_of_the_contract(dave: Client, name: str) -> None:
    wrong = form("A", account="A", nodeType="A", numberOfNodes="x", starttime="2020-01-02T00:00:00", endtime="2020-01-01T00:00:00")
    mended = {"reservation": name, "account": "projecta", "nodeType": "gpu", "numberOfNodes": "1", "endtime": "2020-01-03T00:00:00"}
    told = []
    for field, value in mended.items():
        told.append(dave.post("/reservations", data=wrong).json()["description"].split("'")[1])
        wrong[field] = value
    assert told == list(mended)
    assert "in the pass" in dave.post("/reservations", data=wrong).json()["description"]


@pytest.mark.parametrize(
    ("verb", "path", "error"),
    [
        ("GET", "/reservations", "Error listing reservation"),
        ("POST", "/reservations", "Error creating reservation"),
        ("PUT", "/reservations/a", "Error updating reservation"),
        ("DELETE", "/reservations/a", "Error deleting reservation"),
    ],
)
def test_a_call_names_a_system_that_there_is(alice: Client, verb: str, path: str, error: str) -> None:
    for header in (None, ""):
        refused(alice.request(verb, path, headers={"X-Machine-Name": header}), error, "No machine name given")
    answer = alice.request(verb, path, headers={"X-Machine-Name": "elsewhere"})
    assert (answer.status_code, answer.json()) == (400, {"error": error})
    assert answer.headers["X-Machine-Does-Not-Exist"] == "Machine does not exist"
    assert answer.headers["X-Machine-Does-Not-Exists"] == "Machine does not exists"


@pytest.mark.parametrize(("verb", "path"), [("PATCH", "/reservations"), ("DELETE", "/reservations"), ("GET", "/reservations/a")])
def test_other_methods_are_not_allowed(alice: Client, verb: str, path: str) -> None:
    answer = alice.request(verb, path)
    assert (answer.status_code, answer.json()["error"]) == (405, "Method not allowed")
    assert answer.json()["description"]


def test_a_call_without_token_is_unauthorized(alice: Client) -> None:
    answer = alice.get("/reservations", headers={"Authorization": None})
    assert (answer.status_code, answer.json()) == (401, {"description": "No Auth Header given"})
