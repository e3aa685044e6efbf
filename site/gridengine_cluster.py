"""Grid Engine with one node, and the SSH server of the system that it makes: `ridge`, beside Slurm's."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import ports
import ssh_server
from commands import output, run, succeeds
from facts import Site
from folders import lasting
from people import PEOPLE, USERS
from probes import answers
from program import Program
from supervision import NAMED_LOCALHOST

BIN = Path("/usr/lib/gridengine")
SHARE = Path("/usr/share/gridengine")
PATH = f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"
HOST = "localhost"
ADMIN = "sgeadmin"
MUNGE = Path("/run/munge")  # libmunge's own, compiled in
QUEUES = {"normal": ("0", "16", "24:00:00"), "debug": ("1", "4", "00:30:00")}  # order of preference, slots, longest job

# Grid Engine always asks the munged at /run/munge: here, and nowhere else on the machine, that is the site's.
_WITH_MUNGE = ("unshare", "--mount", "sh", "-c", f'mount --bind "$0" {MUNGE} && exec "$@"')


def programs(site: Site) -> list[Program]:
    """sge_qmaster, sge_execd, and an SSH server whose sessions know Grid Engine's commands."""
    return [_qmaster(site), _execd(site), _sshd(site)]


def _among(site: Site) -> tuple[str, ...]:
    return (*_WITH_MUNGE, str(site.layout.munge_socket.parent))


def _commands(site: Site) -> tuple[str, ...]:
    """What to put before a command of Grid Engine that is not a child of the site's supervisor."""
    return (*NAMED_LOCALHOST, *_among(site), "env", f"PATH={PATH}")


def _qmaster(site: Site) -> Program:
    return Program(
        "sge_qmaster",
        (*_among(site), str(BIN / "sge_qmaster")),
        ready=lambda: succeeds(*_commands(site), "qconf", "-sss", environment=site.gridengine),
        after=("munged",),
        # SGE_ND: do not leave the foreground
        environment={**site.gridengine, "SGE_ND": "1", "PATH": PATH},
        stop_seconds=1,  # it would take nine, and keeps all but the next number on disk at all times
        prepare=lambda: _prepare_cell(site),
        settle=lambda: _settle_cell(site),
    )


def _execd(site: Site) -> Program:
    environment = [f"{name}={value}" for name, value in {**site.gridengine, "SGE_ND": "1", "PATH": PATH}.items()]
    usable = re.compile(r"^\S+@\S+ +\S+ +\S+ +\S+ +lx-amd64 *$", re.MULTILINE)  # no state, such as "au", in the last column
    return Program(
        "sge_execd",
        # jobs inherit its environment: it has none but what it needs
        (*_among(site), "env", "-i", *environment, str(BIN / "sge_execd")),
        ready=lambda: len(usable.findall(output(*_commands(site), "qstat", "-f", environment=site.gridengine))) == len(QUEUES),
        after=("sge_qmaster",),
        stop_seconds=1,
    )


def _sshd(site: Site) -> Program:
    return Program(
        "sshd-ridge",
        (*_among(site), "/usr/sbin/sshd", "-D", "-e", "-f", str(site.layout.etc / "sshd_ridge")),
        ready=lambda: answers(site.ports["ridge"], expected=b"SSH-2.0"),
        after=("munged",),
        prepare=lambda: _prepare_sshd(site),
    )


def _prepare_sshd(site: Site) -> None:
    lasting(MUNGE)
    ssh_server.prepare(site, "ridge")


def cancel_jobs(site: Site) -> None:
    """Have all jobs killed."""
    output(*_commands(site), "qdel", "-u", "*", environment=site.gridengine)


def jobs_left(site: Site) -> bool:
    """Whether there is any job."""
    return bool(output(*_commands(site), "qstat", "-u", "*", environment=site.gridengine))


def _prepare_cell(site: Site) -> None:
    lasting(MUNGE)
    root = site.layout.gridengine
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        for user in USERS:  # job numbers begin anew, and what was cancelled under them is another cell's
            Path(f"/home/{user}/.firecrest/gridengine-cancelled").unlink(missing_ok=True)
        _make_cell(site, root)
        (root / "made").touch()
    for name, line in {"act_qmaster": HOST, "host_aliases": " ".join((HOST, *_names()))}.items():
        place = root / "default" / "common" / name
        place.write_text(f"{line}\n")
        shutil.chown(place, ADMIN)
    (root / "spool" / "qmaster" / "lock").unlink(missing_ok=True)
    _count_on(root)


def _count_on(root: Path) -> None:
    """Have numbers of jobs go on where they ended: a master that was killed knows them as of some seconds before."""
    records, counter = root / "default" / "common" / "accounting", root / "spool" / "qmaster" / "jobseqnum"
    if records.exists():
        numbers = [int(line.split(":")[5]) for line in records.read_text().splitlines() if line.count(":") > 40]
        counter.write_text(f"{max([int(counter.read_text() if counter.exists() else 0), *numbers]) + 1}\n")
        shutil.chown(counter, ADMIN)


def _names() -> list[str]:
    """What else 127.0.0.1 is called on this machine; to Grid Engine every name is a host of its own."""
    lines = [line.partition("#")[0].split() for line in Path("/etc/hosts").read_text().splitlines()]
    return sorted({name for address, *names in filter(None, lines) if address == ports.ADDRESS for name in names} - {HOST})


def _make_cell(site: Site, root: Path) -> None:
    common, spool = root / "default" / "common", root / "spool"
    for folder in (common, spool / "qmaster" / "job_scripts", spool / "execd"):
        folder.mkdir(parents=True)
    for name in ("bin", "lib", "utilbin"):
        (root / name).mkdir()
        (root / name / "lx-amd64").symlink_to(BIN)
    (root / "util").symlink_to(SHARE / "util")
    (common / "cluster_name").write_text("ridge\n")
    (common / "sge_request").write_text("-m n\n")
    (common / "bootstrap").write_text(_lines(_bootstrap(root)))
    given = (SHARE / "default-configuration").read_text()
    (root / "configuration").write_text(_changed(given, _configuration(site, root)))
    run("chown", "-R", f"{ADMIN}:{ADMIN}", str(root))
    _spool(site, "spoolinit", "classic", "libspoolc", f"{common};{spool / 'qmaster'}", "init")
    _spool(site, "spooldefaults.bin", "configuration", str(root / "configuration"))
    for kind, resource in (("complexes", "centry"), ("usersets", "usersets")):
        _spool(site, "spooldefaults.bin", kind, str(SHARE / "util" / "resources" / resource))
    for kind, names in (("adminhosts", (HOST,)), ("managers", ("root", ADMIN)), ("operators", ("root", ADMIN))):
        _spool(site, "spooldefaults.bin", kind, *names)


def _bootstrap(root: Path) -> dict[str, str]:
    spool = root / "spool" / "qmaster"
    return {
        "admin_user": ADMIN,
        "default_domain": "none",
        "ignore_fqdn": "false",
        "spooling_method": "classic",
        "spooling_lib": "libspoolc",
        "spooling_params": f"{root / 'default' / 'common'};{spool}",
        "binary_path": str(root / "bin"),
        "qmaster_spool_dir": str(spool),
        "security_mode": "munge",  # without it whoever says so is root
        "listener_threads": "2",
        "worker_threads": "2",
        "scheduler_threads": "1",
    }


def _configuration(site: Site, root: Path) -> dict[str, str]:
    first_group = 100_000 + 100 * site.ports["sge_execd"]  # jobs are told apart by them, those of other sites included
    return {
        "execd_spool_dir": str(root / "spool" / "execd"),
        "mailer": "/bin/true",
        "administrator_mail": "none",
        "shell_start_mode": "unix_behavior",
        "min_uid": "100",
        "min_gid": "100",
        "user_lists": "people",
        "load_report_time": "00:00:05",
        "max_unheard": "00:01:00",
        "gid_range": f"{first_group}-{first_group + 99}",
        "reporting_params": (
            "accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00 joblog=false sharelog=00:00:00"
        ),
    }


def _lines(entries: Mapping[str, str]) -> str:
    return "".join(f"{name} {value}\n" for name, value in entries.items())


def _changed(text: str, entries: Mapping[str, str]) -> str:
    """A configuration with other values of some entries."""
    for name, value in entries.items():
        text = re.sub(rf"^{name}\s.*$", f"{name} {value}", text, flags=re.MULTILINE)
    return text


def _spool(site: Site, *words: str) -> None:
    user = ("setpriv", f"--reuid={ADMIN}", f"--regid={ADMIN}", "--init-groups")
    environment = {**site.gridengine, "LD_LIBRARY_PATH": str(BIN)}
    run(*NAMED_LOCALHOST, *user, str(BIN / words[0]), *words[1:], environment=environment)


def _settle_cell(site: Site) -> None:
    done = site.layout.gridengine / "settled"
    if not done.exists():
        for option, objects in _objects(site).items():
            for name, text in objects.items():
                _configure(site, option, name, text)
        _configure(site, "-as", HOST)
        run(*_commands(site), "qconf", "-au", ",".join(_members()["people"]), "arusers", environment=site.gridengine)
        done.touch()


def _objects(site: Site) -> dict[str, dict[str, str]]:
    """What a cell is made of, by the option of qconf that adds it, in the order in which it can be added."""
    none, share = dict.fromkeys(("user_lists", "xuser_lists"), "NONE"), dict.fromkeys(("fshare", "oticket"), "0")
    lists = _members()
    host = {"hostname": HOST, "load_scaling": "NONE", "complex_values": "slots=20", **none, "projects": "NONE", "xprojects": "NONE"}
    scheduling = {"schedule_interval": "0:0:1", "job_load_adjustments": "NONE", "load_adjustment_decay_time": "0:0:0"}
    scheduling |= {"flush_submit_sec": "1", "flush_finish_sec": "1", "queue_sort_method": "seqno"}
    return {
        "-Msconf": {"scheduler": _changed(_shown(site, "-ssconf"), scheduling)},
        "-Au": {
            name: _lines({"name": name, "type": "ACL", "fshare": "0", "oticket": "0", "entries": ",".join(lists[name])}) for name in lists
        },
        "-Aprj": {name: _lines({**share, "name": name, "acl": name, "xacl": "NONE"}) for name in lists if name != "people"},
        "-Ae": {"host": _lines({**host, "usage_scaling": "NONE", "report_variables": "NONE"})},
        "-Ahgrp": {"hosts": _lines({"group_name": "@allhosts", "hostlist": HOST})},
        "-Ap": {"smp": _lines(_parallel_environment() | none)},
        "-Aq": {name: _changed(_shown(site, "-sq"), {"qname": name, **_queue(*facts)}) for name, facts in QUEUES.items()},
    }


def _members() -> dict[str, list[str]]:
    """The users of each project, and all who may submit."""
    projects = dict.fromkeys(account for person in PEOPLE for account in person.accounts)
    members = {project: [person.user for person in PEOPLE if project in person.accounts] for project in projects}
    return {**members, "people": [person.user for person in PEOPLE if person.accounts]}


def _parallel_environment() -> dict[str, str]:
    return {
        "pe_name": "smp",
        "slots": "999",
        "start_proc_args": "NONE",
        "stop_proc_args": "NONE",
        "allocation_rule": "$pe_slots",
        "control_slaves": "FALSE",
        "job_is_first_task": "TRUE",
        "urgency_slots": "min",
        "accounting_summary": "TRUE",
        "qsort_args": "NONE",
    }


def _queue(order: str, slots: str, longest: str) -> dict[str, str]:
    return {
        "hostlist": "@allhosts",
        "seq_no": order,
        "slots": slots,
        "h_rt": longest,
        "load_thresholds": "NONE",  # Slurm's jobs share the processors
        "pe_list": "smp",
        "shell": "/bin/bash",
        "shell_start_mode": "unix_behavior",
        "min_cpu_interval": "00:00:05",
        "notify": "00:00:05",
    }


def _shown(site: Site, option: str) -> str:
    return run(*_commands(site), "qconf", option, environment=site.gridengine)


def _configure(site: Site, option: str, name: str, text: str = "") -> None:
    place = site.layout.gridengine / name
    if text:
        place.write_text(text)
    run(*_commands(site), "qconf", option, str(place) if text else name, environment=site.gridengine)
