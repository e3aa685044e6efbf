"""Looking into file systems: those that are well, missing, not mounted, closed to us, and one that hangs for good."""

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.own_sshd import OwnSshd, eventually
from tests.real_site import not_here
from workers.host import Host
from workers.probes import look_into
from workers.ssh import SSHHost

LIBC = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2


@pytest.fixture
def places(shared_sshd: OwnSshd) -> Path:
    """A folder that the user of the server may look into."""
    folder = shared_sshd.folder / f"places-{time.monotonic_ns()}"
    for name in ("good", "blanks and 'quotes'", "empty", "closed"):
        (folder / name).mkdir(parents=True)
    (folder / "good" / "file").touch()
    (folder / "blanks and 'quotes'" / ".hidden").touch()
    (folder / "closed" / "file").touch()
    (folder / "closed").chmod(0o700)
    (folder / "link").symlink_to("good")
    return folder


@pytest.fixture
def hung(tmp_path_factory: pytest.TempPathFactory, shared_sshd: OwnSshd) -> Iterator[Path]:
    """A mount whose file system server never answers."""
    place = shared_sshd.folder / f"hung-{time.monotonic_ns()}"
    place.mkdir()
    try:
        descriptor = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        not_here("there is no FUSE")
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if LIBC.mount(b"hung", str(place).encode(), b"fuse", 0, options):
        os.close(descriptor)
        not_here(f"FUSE cannot be mounted: {os.strerror(ctypes.get_errno())}")
    yield place
    LIBC.umount2(str(place).encode(), MNT_DETACH)
    os.close(descriptor)


def test_a_file_system_is_well_when_it_can_be_listed_and_holds_something(host: Host, places: Path) -> None:
    names = {"good": True, "blanks and 'quotes'": True, "link": True, "empty": False, "missing": False, "good/file": False}
    found = host.run(look_into([str(places / name) for name in names], seconds=3))
    assert found == {str(places / name): well for name, well in names.items()}
    assert host.run(look_into([], seconds=3)) == {}


def test_what_the_probe_may_not_look_into_is_not_well(shared_host: SSHHost, places: Path) -> None:
    assert shared_host.run(look_into([str(places / "closed")], seconds=3)) == {str(places / "closed"): False}


def test_a_mount_that_hangs_hides_no_other_and_leaves_nothing_behind(host: Host, places: Path, hung: Path) -> None:
    well = [str(places / "good"), str(places / "link")]
    begun = time.monotonic()
    found = host.run(look_into([well[0], str(hung), well[1], str(hung / "below")], seconds=1))
    assert time.monotonic() - begun < 4
    assert found == {well[0]: True, str(hung): False, well[1]: True, str(hung / "below"): False}
    eventually(lambda: not any(b"hung-" in arguments and b"find" in arguments for arguments in command_lines()))
    assert host.run(look_into(well, seconds=1)) == dict.fromkeys(well, True)


def test_file_systems_that_are_well_are_not_waited_for(host: Host, places: Path) -> None:
    begun = time.monotonic()
    host.run(look_into([str(places / "good")] * 50, seconds=10))
    assert time.monotonic() - begun < 5


def command_lines() -> list[bytes]:
    """The command lines of all processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    return found
