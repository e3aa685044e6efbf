"""What is said of systems and file systems, given what the probes found."""

import pytest

from api.findings import Findings
from broker.celery import probes
from broker.health import Probe
from schemas.settings import Settings, System

FILES = [{"name": "home", "path": "/home", "description": "Homes"}, {"name": "scratch", "path": "/scratch"}]
PROBED = System.model_validate({"name": "one", "host": "h", "host_keys": ["k"], "filesystems": FILES, "probe_user": "prober"})
UNPROBED = PROBED.model_copy(update={"probe_user": ""})
WELL = {"/home": True, "/scratch": True}


def found(up: bool | None = True, files: dict | None = None, scheduler: bool | None = None) -> Findings:  # noqa: FBT002 (three values)
    """The findings for the one system; None: nothing lately."""
    return Findings(
        {} if up is None else {"one": {"ssh": up}},
        {} if files is None else {"one": files},
        {} if scheduler is None else {"one": {"slurm": scheduler}},
    )


@pytest.mark.parametrize(
    ("findings", "status", "description"),
    [
        (found(files=WELL, scheduler=True), "available", "System ready"),
        (found(), "available", "System ready"),
        (found(None), "not available", "System has not been probed lately"),
        (found(None, WELL, scheduler=True), "not available", "System has not been probed lately"),
        (found(False, WELL, scheduler=True), "not available", "System does not accept connections"),
        (found(files=WELL | {"/home": False}), "available", "Filesystem /home is not available"),
        (found(files={"/scratch": False, "/home": False}), "available", "Filesystem /home,/scratch is not available"),
        (found(files=WELL | {"/former": False}), "available", "System ready"),
        (found(scheduler=False), "available", "Scheduler slurm is not available"),
        (
            found(files=WELL | {"/home": False}, scheduler=False),
            "available",
            "Filesystem /home is not available. Scheduler slurm is not available",
        ),
    ],
)
def test_a_system_is_available_when_it_can_be_entered_and_says_what_it_lacks(findings: Findings, status: str, description: str) -> None:
    assert findings.system(PROBED).model_dump() == {"system": "one", "status": status, "description": description}


@pytest.mark.parametrize(
    ("findings", "system", "well", "note"),
    [
        (found(files=WELL), PROBED, True, ""),
        (found(files=WELL | {"/home": False}), PROBED, False, ""),
        (found(False, WELL), PROBED, False, ""),
        (found(None, WELL), PROBED, False, ""),
        (found(), PROBED, False, " (has not been probed lately)"),
        (found(files={"/scratch": True}), PROBED, False, " (has not been probed lately)"),
        (found(), UNPROBED, True, " (not probed itself: this is the status of the system)"),
        (found(False), UNPROBED, False, " (not probed itself: this is the status of the system)"),
    ],
)
def test_a_file_system_fares_as_it_was_found_or_as_its_system_does(findings: Findings, system: System, well: bool, note: str) -> None:
    status, code = ("available", 200) if well else ("not available", 400)
    expected = {"name": "home", "path": "/home", "description": f"Homes{note}", "status": status, "status_code": code}
    assert findings.filesystem(system, system.filesystems[0]).model_dump() == expected


def test_a_file_system_without_description_has_only_what_is_to_be_said() -> None:
    scratch = PROBED.filesystems[1]
    assert found(files=WELL).filesystem(PROBED, scratch).description == ""
    assert found().filesystem(PROBED, scratch).description == "(has not been probed lately)"


def test_every_system_has_probes_of_its_own_in_the_beat_s_schedule() -> None:
    systems = [
        {"name": "with", "host": "h", "host_keys": ["k"], "probe_user": "p"},
        {"name": "without", "host": "h", "host_keys": ["k"]},
    ]
    everything = {
        "systems": systems,
        "issuers": [{"jwks_url": "https://u"}],
        "broker": {"url": "redis://h"},
        "keys": {"private": "/k", "public": "/k"},
        "probes": {"service_period": 1, "system_period": 2, "filesystem_period": 3, "scheduler_period": 4, "storage_period": 5},
        "storage": {"private_url": "http://h", "public_url": "http://h", "access_key": "k", "secret_key": "s"},
    }
    ticks = [(tick["task"], tick["args"], tick["schedule"]) for tick in probes(Settings.model_validate(everything)).values()]
    assert ticks == [
        ("beat.ProbeServices", (), 1),
        (Probe.SYSTEM, ("with",), 2),
        (Probe.SYSTEM, ("without",), 2),
        (Probe.FILESYSTEMS, ("with",), 3),
        (Probe.SCHEDULER, ("with",), 4),
        (Probe.STORAGE, ("s3v4",), 5),
    ]
