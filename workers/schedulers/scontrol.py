"""scontrol of Slurm: the reading of its one-line records, and its words for reservations."""

import re

from schemas.errors import CommandFailed
from schemas.reservations import CreateReservation, DeleteReservation, Extent, Reservations, UpdateReservation

_KEY = re.compile(r"(?:^| )([A-Z][A-Za-z:/_]*)=")
_NOTHING = re.compile(r"No \w+ in the system")


def records(stdout: bytes) -> list[dict[str, str]]:
    """Read `scontrol --oneliner show nodes`, `partitions` or `reservations`: a record per line, keyed by Slurm's own names.

    Values are text as Slurm prints it and may hold blanks and `=`; a key that the record already has is part of a value,
    so that free text, which comes last, cannot change what is before it. Raises CommandFailed for a line that is no record.
    """
    lines = stdout.decode(errors="replace").split("\n")
    return [_record(line) for line in lines if line.strip() and not _NOTHING.fullmatch(line.strip())]


def _record(line: str) -> dict[str, str]:
    found: dict[str, re.Match[str]] = {}
    for key in _KEY.finditer(line):
        found.setdefault(key[1], key)
    keys = list(found.values())
    if not keys or keys[0].start():
        raise CommandFailed(f"not a record of scontrol: {line.strip()}")
    ends = [*(key.start() for key in keys[1:]), len(line)]
    return {key[1]: line[key.end() : end].strip() for key, end in zip(keys, ends, strict=True)}


def reservation(op: Reservations | CreateReservation | UpdateReservation | DeleteReservation) -> tuple[str, ...]:
    """The command line for an operation on reservations.

    An update does not name the features: Slurm (seen with 22.05) refuses to change them, even to what they are.
    """
    match op:
        case Reservations():
            words: tuple[str, ...] = ("--all", "--oneliner", "show", "reservations")
        case CreateReservation():
            words = ("create", "reservation", *_extent(op, op.reservation), f"Features={op.node_type}", f"Accounts={op.account}")
        case UpdateReservation():
            words = ("update", *_extent(op, op.reservation))
        case DeleteReservation():
            words = ("delete", f"ReservationName={op.reservation}")
    return ("env", "SLURM_TIME_FORMAT=standard", "scontrol", *words)


def _extent(op: Extent, name: str) -> tuple[str, ...]:
    return (f"ReservationName={name}", f"StartTime={op.start_time}", f"EndTime={op.end_time}", f"NodeCnt={op.number_of_nodes}")
