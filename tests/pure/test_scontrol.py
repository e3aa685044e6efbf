"""What scontrol of Slurm 22.05 prints, recorded, as the gateway reads it."""

from pathlib import Path

import pytest

from schemas.errors import CommandFailed
from workers.schedulers.scontrol import records

RECORDED = Path(__file__).parent / "recorded"


def recorded(what: str) -> list[dict[str, str]]:
    return records((RECORDED / f"scontrol-show-{what}.txt").read_bytes())


def test_reservations_are_read() -> None:
    odd, two = recorded("reservations")

    assert (odd["ReservationName"], odd["Features"], odd["Accounts"]) == ("a$-b", "gpu", "projecta")
    assert (two["Nodes"], two["Accounts"], two["StartTime"]) == ("n[1-2]", "projecta,projectb", "2030-01-01T00:00:00")
    assert (two["Flags"], two["TRES"], two["Users"], two["MaxStartDelay"]) == ("", "cpu=32", "(null)", "(null)")
    assert len(odd) == len(two) == 19


def test_partitions_are_read() -> None:
    normal, debug, xfer = recorded("partitions")

    assert [one["PartitionName"] for one in (normal, debug, xfer)] == ["normal", "debug", "xfer"]
    assert (normal["Default"], normal["State"], normal["TotalCPUs"], normal["TotalNodes"]) == ("YES", "UP", "48", "3")
    assert normal["TRES"] == "cpu=48,mem=48000M,node=3,billing=48"


def test_nodes_are_read_whatever_an_administrator_wrote() -> None:
    first, drained, third = recorded("nodes")

    assert [one["NodeName"] for one in (first, drained, third)] == ["n1", "n2", "n3"]
    assert (third["ActiveFeatures"], third["Partitions"], third["State"]) == ("multicore,gpu", "normal,xfer", "IDLE")
    assert (first["CoresPerSocket"], first["CPUAlloc"], first["AllocTRES"], first["MCS_label"]) == ("16", "0", "", "N/A")
    assert first["OS"] == drained["OS"]
    assert first["OS"].startswith("Linux ")
    assert drained["State"] == "IDLE+DRAIN"
    assert drained["Reason"].startswith("disk = broken; OS=none [root@")


def test_a_key_that_is_there_already_is_text() -> None:
    (record,) = records(b"NodeName=n1 State=DOWN Reason=State=IDLE NodeName=n2 State=IDLE\n")

    assert record == {"NodeName": "n1", "State": "DOWN", "Reason": "State=IDLE NodeName=n2 State=IDLE"}


@pytest.mark.parametrize("what", ["reservations", "nodes", "partitions"])
def test_nothing_is_no_records(what: str) -> None:
    assert records(f"No {what} in the system\n".encode()) == records(b"") == []


def test_what_is_no_record_is_refused() -> None:
    for line in (b"Node n9 not found\n", b"oops NodeName=n1\n", b"NodeName=n1\nslurm_load_jobs error\n"):
        with pytest.raises(CommandFailed, match="not a record"):
            records(line)
