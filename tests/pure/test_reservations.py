"""Reservations as commands, and what failures of these commands mean."""

from typing import Any

import pytest
from redis import Redis

from broker.blobs import Blobs
from schemas.errors import AccessHidden, CommandRefused, FirecrestError, ReservationFailed, TimedOut
from schemas.reservations import CreateReservation, DeleteReservation, Reservations, UpdateReservation
from schemas.settings import Limits, System
from workers.host import Command, Finished
from workers.performing import Scene
from workers.reservations import create, failure, reservations, site_options, update
from workers.schedulers.scontrol import reservation

EXTENT = {"nodeType": "gpu", "numberOfNodes": "07", "starttime": "2030-06-01T00:00:00", "endtime": "2030-06-02T00:00:00"}
CREATE = CreateReservation.model_validate({"reservation": "a$-b", "account": "proj", **EXTENT})
UPDATE = UpdateReservation.model_validate({"reservation": "a$-b", **EXTENT})
DELETE = DeleteReservation.model_validate({"reservation": "a$-b"})
SHOWN = b"ReservationName=a$-b Features=gpu\nReservationName=other Features=multicore\n"


class Machine:
    """A machine with a clock and two reservations, which remembers what it was told."""

    def __init__(self, clock: bytes = b"2026-11-22T12:00:00\n") -> None:
        self.clock = clock
        self.told: list[Command[Any]] = []

    def run(self, command: Command[Any]) -> Any:
        """What the command would make of the clock, the list or of `done`."""
        self.told.append(command)
        said = self.clock if command.argv[0] == "date" else SHOWN if "show" in command.argv else b"done\n"
        return command.parse(said)


def scene(**changes: Any) -> Scene:
    system = System.model_construct(**{"name": "here", "scheduler": "slurm", "reservation_command": (), **changes})
    return Scene("id", "ann", system, Limits(reservations_timeout=7), Blobs(Redis()))


def test_scontrol_is_told_everything_in_words_of_its_own() -> None:
    slurm, times = ("env", "SLURM_TIME_FORMAT=standard", "scontrol"), ("StartTime=2030-06-01T00:00:00", "EndTime=2030-06-02T00:00:00")
    extent = ("ReservationName=a$-b", *times, "NodeCnt=7")

    assert reservation(CREATE) == (*slurm, "create", "reservation", *extent, "Features=gpu", "Accounts=proj")
    assert reservation(UPDATE) == (*slurm, "update", *extent)
    assert reservation(DELETE) == (*slurm, "delete", "ReservationName=a$-b")
    assert reservation(Reservations()) == (*slurm, "--all", "--oneliner", "show", "reservations")


def test_the_command_of_the_site_is_told_everything_in_words_of_its_own() -> None:
    extent = ("7", "gpu", "2030-06-01T00:00:00", "2030-06-02T00:00:00")

    assert site_options(CREATE) == ("-a", "proj", *extent, "a$-b")
    assert site_options(UPDATE) == ("-u", "a$-b", *extent)
    assert site_options(DELETE) == ("-d", "a$-b")
    assert site_options(Reservations()) == ("-l",)


def test_only_what_reads_may_run_twice_and_nothing_runs_for_ever() -> None:
    machine = Machine()
    create(CREATE, machine, scene())
    reservations(Reservations(), machine, scene())

    clock, creation, listing = machine.told
    assert (clock.repeatable, creation.repeatable, listing.repeatable) == (True, False, True)
    assert (creation.seconds, listing.seconds) == (7, 7)
    assert creation.line().startswith("LC_ALL=C.UTF-8 timeout 7 env ")
    assert "'ReservationName=a$-b'" in creation.line()


@pytest.mark.parametrize("clock", [b"2030-06-01T00:00:01\n", b"2031-01-01T00:00:00\n"])
def test_the_clock_of_the_system_tells_whether_a_start_is_over(clock: bytes) -> None:
    for performer, op in ((create, CREATE), (update, UPDATE)):
        machine = Machine(clock)
        with pytest.raises(ReservationFailed, match="'starttime' is in the pass"):
            performer(op, machine, scene())
        assert [command.argv[0] for command in machine.told] == ["date"]
    assert create(CREATE, Machine(b"2030-06-01T00:00:00\n"), scene()) == "done"


def test_slurm_is_not_asked_to_change_the_node_type() -> None:
    assert update(UPDATE, Machine(), scene()) == "done"
    machine = Machine()
    with pytest.raises(ReservationFailed, match=r"\(it is 'gpu'\)"):
        update(UPDATE.model_copy(update={"node_type": "multicore"}), machine, scene())
    assert not any("update" in command.argv for command in machine.told)


def test_the_command_of_the_site_takes_the_place_of_the_schedulers() -> None:
    machine = Machine()
    update(UPDATE, machine, scene(reservation_command=("sudo", "rsv"), scheduler="another"))
    assert [command.argv[:3] for command in machine.told[1:]] == [("sudo", "rsv", "-u")]


def test_a_scheduler_without_reservations_says_so() -> None:
    machine = Machine()
    for performer, op in ((create, CREATE), (update, UPDATE), (reservations, Reservations())):
        with pytest.raises(ReservationFailed, match="here has no reservations"):
            performer(op, machine, scene(scheduler="another"))
    assert machine.told == []


@pytest.mark.parametrize(
    ("code", "message", "kind", "text"),
    [
        (124, "", TimedOut, ""),
        (118, "refused", CommandRefused, ""),
        (1, "rsvmgmt: Permission denied", AccessHidden, ""),
        (1, "Error: you are no SystemAdministrator", AccessHidden, ""),
        (1, "Error creating the reservation: Access/permission denied", AccessHidden, ""),
        (1, "delete_reservation ReservationName=a: Invalid user id", AccessHidden, ""),
        (1, "rsvmgmt: Error: more nodes than there are", ReservationFailed, "more nodes than there are"),
        (1, "timeout: rsvmgmt:Error: rsvmgmt: tErrors: x", ReservationFailed, "tErrors: x"),
        (1, "Error creating the reservation: Error: x", ReservationFailed, "Error creating the reservation: Error: x"),
        (2, "", ReservationFailed, "Command has failed with exit status 2"),
    ],
)
def test_failures_are_told_apart(code: int, message: str, kind: type[FirecrestError], text: str) -> None:
    failed = failure(code, message)
    assert (type(failed), failed.text) == (kind, text)


def test_output_that_is_no_list_is_a_failure() -> None:
    class Odd(Machine):
        def run(self, command: Command[Any]) -> Any:
            return command.read(Finished(0, b"welcome to the site's tool\n", b""))

    with pytest.raises(ReservationFailed, match="welcome"):
        reservations(Reservations(), Odd(), scene(reservation_command=("rsv",)))


def test_in_a_swapped_body_a_header_tells_what_it_tells() -> None:
    assert ReservationFailed("no").swapped_body("E") == {"error": "E", "description": "no"}
    assert AccessHidden("no").swapped_body("E") == {"error": "E"}
    assert ReservationFailed().swapped_body("E") == {"error": "E"}
