"""pyfirecrest's reservations, in a real Slurm."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import firecrest
import pytest

from tests.real_site import Site


@pytest.fixture
def name(site: Site) -> Iterator[str]:
    """A name for one reservation, which is gone after the test."""
    unique = f"client-{uuid4().hex[:8]}"
    yield unique
    if unique in site.slurm("scontrol", "--all", "show", "reservations"):
        site.slurm("scontrol", "delete", f"ReservationName={unique}")


def test_reservations_are_managed(make: Callable[..., Any], system: str, name: str, site: Site) -> None:
    client = make("dave")
    times = ("2037-01-01T00:00:00", "2037-01-02T00:00:00")

    client.create_reservation(system, name, "projecta", "1", "multicore", *times)
    (found,) = [one for one in client.all_reservations(system) if one["reservationname"] == name]
    assert (found["accounts"], found["nodecnt"], found["features"]) == ("projecta", "1", "multicore")
    assert (found["starttime"], found["endtime"]) == times

    client.update_reservation(system, name, "projecta", "2", "multicore", "2037-02-01T00:00:00", "2037-02-02T00:00:00")
    (found,) = [one for one in client.all_reservations(system) if one["reservationname"] == name]
    assert (found["nodecnt"], found["starttime"]) == ("2", "2037-02-01T00:00:00")

    client.delete_reservation(system, name)
    assert name not in site.slurm("scontrol", "--all", "show", "reservations")


def test_failures_of_reservations_are_the_client_s_own_exceptions(make: Callable[..., Any], client: Any, system: str, name: str) -> None:
    times = ("2037-01-01T00:00:00", "2037-01-02T00:00:00")
    with pytest.raises(firecrest.HeaderException, match="User does not have permissions to access machine or path"):
        client.create_reservation(system, name, "projecta", "1", "gpu", *times)
    with pytest.raises(firecrest.HeaderException, match="Machine does not exist"):
        client.all_reservations("elsewhere")
    with pytest.raises(firecrest.FirecrestException) as failed:
        make("dave").create_reservation(system, name, "projecta", "1", "steam", *times)
    told = {"error": "Error creating reservation", "description": "Error creating the reservation: Invalid feature specification"}
    assert failed.value.responses[-1].json() == told
    with pytest.raises(firecrest.FirecrestException, match="Requested reservation is invalid"):
        make("dave").delete_reservation(system, name)
