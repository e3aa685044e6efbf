"""How reservations are managed: with the workload manager's own command, or with the site's."""

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import TypeVar

from schemas.errors import AccessDenied, AccessHidden, CommandFailed, CommandRefused, FirecrestError, ReservationFailed, TimedOut
from schemas.reservations import CreateReservation, DeleteReservation, Extent, Reservations, UpdateReservation
from schemas.settings import System
from workers.failures import REFUSED, TIMED_OUT
from workers.host import Command, Host
from workers.performing import Scene, performs
from workers.schedulers import scontrol

T = TypeVar("T")
Managed = Reservations | CreateReservation | UpdateReservation | DeleteReservation

# The command line for an operation, by the name of the workload manager.
_TOOLS: MappingProxyType[str, Callable[[Managed], tuple[str, ...]]] = MappingProxyType({"slurm": scontrol.reservation})

_PREFIXES = re.compile(r"\A(?:(?:timeout|rsvmgmt|Error):\s*)+")
# "Invalid user id" is what Slurm 22.05 says to whoever may not manage reservations
_DENIALS = ("Permission", "permission denied", "SystemAdministrator", "Invalid user id")


@performs(Reservations)
def reservations(op: Reservations, host: Host, scene: Scene) -> list[dict[str, str]]:
    """All reservations, each by the lower-cased names of its attributes."""
    found = _run(_command(op, scene, scontrol.records), host)
    return [{name.lower(): value for name, value in record.items()} for record in found]


@performs(CreateReservation)
def create(op: CreateReservation, host: Host, scene: Scene) -> str:
    """What the command says."""
    command = _command(op, scene, _said)
    _check_start(op, host, scene)
    return _run(command, host)


@performs(UpdateReservation)
def update(op: UpdateReservation, host: Host, scene: Scene) -> str:
    """What the command says."""
    command = _command(op, scene, _said)
    _check_start(op, host, scene)
    if not scene.system.reservation_command:
        _check_node_type(op, host, scene)
    return _run(command, host)


@performs(DeleteReservation)
def delete(op: DeleteReservation, host: Host, scene: Scene) -> None:
    """Nothing; the reservation is gone."""
    _run(_command(op, scene, _said), host)


def _check_start(op: Extent, host: Host, scene: Scene) -> None:
    """Raise ReservationFailed if the start is over by the clock of the system, which is the one that Slurm reads times by."""
    seconds = scene.limits.utilities_timeout
    now = _run(Command(("date", "+%Y-%m-%dT%H:%M:%S"), _said, seconds=seconds, repeatable=True, fails=failure), host)
    if op.start_time < now:
        raise ReservationFailed(f"'starttime' is in the pass (values entered: starttime='{op.start_time}')")


def _check_node_type(op: UpdateReservation, host: Host, scene: Scene) -> None:
    """Raise ReservationFailed for another type than the reservation has: Slurm cannot change it."""
    for record in _run(_command(Reservations(), scene, scontrol.records), host):
        if record["ReservationName"] == op.reservation and record["Features"] != op.node_type:
            has = f"it is '{record['Features']}'"
            raise ReservationFailed(f"'nodeType' of a reservation cannot be changed ({has}): delete the reservation and create another")


def _command(op: Managed, scene: Scene, parse: Callable[[bytes], T]) -> Command[T]:
    words, reads = _words(op, scene.system), isinstance(op, Reservations)
    return Command(words, parse, seconds=scene.limits.reservations_timeout, repeatable=reads, fails=failure)


def _words(op: Managed, system: System) -> tuple[str, ...]:
    if system.reservation_command:
        return (*system.reservation_command, *site_options(op))
    if system.scheduler not in _TOOLS:
        raise ReservationFailed(f"{system.name} has no reservations")
    return _TOOLS[system.scheduler](op)


def site_options(op: Managed) -> tuple[str, ...]:
    """What follows the words of the site's own command (contract, 3.3)."""
    match op:
        case Reservations():
            return ("-l",)
        case CreateReservation():
            return ("-a", op.account, *_extent(op), op.reservation)
        case UpdateReservation():
            return ("-u", op.reservation, *_extent(op))
        case DeleteReservation():
            return ("-d", op.reservation)


def _extent(op: Extent) -> tuple[str, ...]:
    return (str(op.number_of_nodes), op.node_type, op.start_time, op.end_time)


def _run(command: Command[T], host: Host) -> T:
    try:
        return host.run(command)
    except AccessDenied:
        raise AccessHidden from None
    except CommandFailed as failed:
        raise ReservationFailed(failed.text) from None


def failure(code: int, message: str) -> FirecrestError:
    """What exit status and message of a command for reservations stand for (contract, 1.9)."""
    if code == TIMED_OUT:
        return TimedOut()
    if code == REFUSED:
        return CommandRefused()
    if any(sign in message for sign in _DENIALS):
        return AccessHidden()
    return ReservationFailed(plain(message) or f"Command has failed with exit status {code}")


def plain(message: str) -> str:
    """The message without the names of programs in front of it."""
    return _PREFIXES.sub("", message)


def _said(stdout: bytes) -> str:
    return stdout.decode(errors="replace").strip()
