"""Nodes, partitions and reservations over HTTP, of the site's Slurm (contract, 1.4, 2.3, 4.5)."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_site import Client, Site
from tests.site.test_jobs import done, refusal

NODE = {"NodeName", "ActiveFeatures", "Partitions", "State"}


@pytest.fixture
def reserved(site: Site) -> Iterator[str]:
    """Two reservations: of a node that is named, and of any two nodes with a feature."""
    times = ("starttime=2035-01-01T00:00:00", "endtime=2035-01-02T00:00:00", "accounts=projecta")
    site.slurm("scontrol", "create", "reservation", "reservationname=one", *times, "nodes=n1")
    site.slurm("scontrol", "create", "reservation", "reservationname=two", *times, "nodecnt=1", "features=multicore&gpu")
    yield "one"
    for name in ("one", "two"):
        site.slurm("scontrol", "delete", f"reservationname={name}")


def test_nodes_are_listed(alice: Client) -> None:
    nodes = done(alice, "/compute/nodes")

    assert [node["NodeName"] for node in nodes] == ["n1", "n2", "n3"]
    assert all(set(node) == NODE for node in nodes)
    assert [node["ActiveFeatures"] for node in nodes] == [["multicore"], ["multicore"], ["multicore", "gpu"]]
    assert [node["Partitions"] for node in nodes] == [["normal", "debug", "xfer"], ["normal", "xfer"], ["normal", "xfer"]]


def test_a_state_of_several_words_is_a_list(alice: Client, site: Site) -> None:
    site.slurm("scontrol", "update", "nodename=n2", "state=drain", "reason=State=UP Partitions=none; a test")
    try:
        (node,) = done(alice, "/compute/nodes/n2")
        assert (node["State"], node["Partitions"]) == (["IDLE", "DRAIN"], ["normal", "xfer"])
    finally:
        site.slurm("scontrol", "update", "nodename=n2", "state=resume")


@pytest.mark.parametrize(("names", "found"), [("n2", ["n2"]), ("n3,n1", ["n1", "n3"]), ("n[1-2]", ["n1", "n2"]), (",", [])])
def test_some_nodes_are_listed(alice: Client, names: str, found: list[str]) -> None:
    assert sorted(node["NodeName"] for node in done(alice, "/compute/nodes", nodes=names)) == found


@pytest.mark.parametrize("name", ["n9", "-n", "--help", "%"])
def test_an_unknown_node_is_told_in_slurm_s_words(alice: Client, name: str) -> None:
    words = f"Node {name} not found"
    assert refusal(alice, "/compute/nodes", nodes=name) == words
    assert refusal(alice, "/compute/nodes", nodes=f"n1,{name}") == words
    assert refusal(alice, f"/compute/nodes/{name}") == words


def test_partitions_are_listed_and_unknown_ones_left_out(alice: Client) -> None:
    partitions = done(alice, "/compute/partitions")

    assert partitions == [
        {"PartitionName": "normal", "State": "UP", "TotalCPUs": "48", "TotalNodes": "3", "Default": "YES"},
        {"PartitionName": "debug", "State": "UP", "TotalCPUs": "16", "TotalNodes": "1", "Default": "NO"},
        {"PartitionName": "xfer", "State": "UP", "TotalCPUs": "48", "TotalNodes": "3", "Default": "NO"},
    ]
    assert done(alice, "/compute/partitions", partitions="xfer,nowhere") == partitions[2:]
    assert done(alice, "/compute/partitions", partitions="nowhere") == []


def test_no_reservation_is_an_empty_list(alice: Client) -> None:
    assert done(alice, "/compute/reservations") == []


def test_reservations_are_listed_and_unknown_ones_left_out(alice: Client, reserved: str) -> None:
    facts = {"State": "INACTIVE", "StartTime": "2035-01-01T00:00:00", "EndTime": "2035-01-02T00:00:00"}
    one = {"ReservationName": "one", "Nodes": "n1", "Features": [], **facts}
    two = {"ReservationName": "two", "Nodes": "n3", "Features": ["multicore", "gpu"], **facts}

    assert sorted(done(alice, "/compute/reservations"), key=lambda found: found["ReservationName"]) == [one, two]
    assert done(alice, "/compute/reservations", reservations=f"{reserved},nowhere") == [one]
    assert done(alice, "/compute/reservations", reservations="nowhere") == []


@pytest.mark.parametrize("value", ["", "a;b", "a'b"])
@pytest.mark.parametrize(
    ("path", "description", "error"),
    [
        ("nodes", "Failed to retrieve nodes information", "node"),
        ("partitions", "Failed to retrieve partitions information", "partition"),
        ("reservations", "Failed to retrieve reservations information", "reservations"),
    ],
)
def test_names_are_checked(alice: Client, path: str, description: str, error: str, value: str) -> None:
    answer = alice.get(f"/compute/{path}", params={path: value})

    reason = "has invalid char" if value else "is empty"
    assert (answer.status_code, answer.json()) == (400, {"description": description, "error": f"{error} '{value}' {reason}"})


def test_a_node_s_name_is_checked(alice: Client) -> None:
    answer = alice.get("/compute/nodes/a;b")

    expected: dict[str, Any] = {"description": "Failed to retrieve node", "error": "nodeName 'a;b' has invalid char"}
    assert (answer.status_code, answer.json()) == (400, expected)


@pytest.mark.parametrize(
    ("path", "description"),
    [
        ("nodes", "Failed to retrieve jobs information"),
        ("nodes/n1", "Failed to retrieve jobs information"),
        ("partitions", "Failed to retrieve account information"),
        ("reservations", "Failed to retrieve account information"),
    ],
)
def test_whoever_may_not_enter_sees_nothing(site: Site, path: str, description: str) -> None:
    answer = Client(site, "nobody").get(f"/compute/{path}")

    assert (answer.status_code, answer.json()) == (404, {"description": description})
    assert answer.headers["X-Permission-Denied"] == "User does not have permissions to access machine or path"
