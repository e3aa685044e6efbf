"""Slurm with three nodes on one machine, and what it needs: munge, and MariaDB under slurmdbd."""

import secrets
import shutil

import ports
from commands import output, run, succeeds
from facts import SYSTEM, Site
from folders import owned
from people import PEOPLE
from program import Program

NODES = ("n1", "n2", "n3")


def programs(site: Site) -> list[Program]:
    """munged, mariadbd, slurmdbd, slurmctld, and a slurmd for every node."""
    return [_munged(site), _mariadbd(site), _slurmdbd(site), _slurmctld(site), *(_slurmd(site, node) for node in NODES)]


def cancel_jobs(site: Site) -> None:
    """Have all jobs killed."""
    jobs = output("squeue", "-h", "-o", "%A", environment=site.slurm).split()
    if jobs:
        output("scancel", *jobs, environment=site.slurm)


def jobs_left(site: Site) -> bool:
    """Whether there is any job."""
    return bool(output("squeue", "-h", "-o", "%A", environment=site.slurm))


def _munged(site: Site) -> Program:
    folder = site.layout.munge_socket.parent
    places = [f"--{what}-file={folder / what}" for what in ("key", "pid", "seed")]
    return Program(
        "munged",
        ("/usr/sbin/munged", "--foreground", "--num-threads=4", f"--socket={site.layout.munge_socket}", *places),
        ready=lambda: succeeds("munge", "--no-input", f"--socket={site.layout.munge_socket}"),
        user="munge",
        prepare=lambda: _prepare_munge(site),
    )


def _prepare_munge(site: Site) -> None:
    # munged trusts its socket's folder only if it is munge's own
    key = owned(site.layout.munge_socket.parent, "munge") / "key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        shutil.chown(key, "munge")


def _mariadbd(site: Site) -> Program:
    socket = f"--socket={site.layout.data / 'mariadb' / 'socket'}"
    return Program(
        "mariadbd",
        ("/usr/sbin/mariadbd", f"--defaults-file={site.layout.etc / 'my.cnf'}"),
        ready=lambda: succeeds("mariadb-admin", "--no-defaults", socket, "ping"),
        user="mysql",
        prepare=lambda: _prepare_mariadb(site),
        settle=lambda: _settle_mariadb(site),
    )


def _prepare_mariadb(site: Site) -> None:
    data = owned(site.layout.data / "mariadb", "mysql", 0o700)
    if not (data / "mysql").exists():
        options = ("--user=mysql", "--skip-test-db", "--auth-root-authentication-method=socket")
        run("mariadb-install-db", f"--defaults-file={site.layout.etc / 'my.cnf'}", *options)


def _settle_mariadb(site: Site) -> None:
    password = site.secrets["mariadb"]
    statements = ["create database if not exists slurm_acct_db;"]
    for host in ("127.0.0.1", "localhost"):
        statements.append(f"create user if not exists 'slurm'@'{host}' identified by '{password}';")
        statements.append(f"grant all on slurm_acct_db.* to 'slurm'@'{host}';")
    run("mariadb", "--no-defaults", f"--socket={site.layout.data / 'mariadb' / 'socket'}", said="".join(statements))


def _slurmdbd(site: Site) -> Program:
    return Program(
        "slurmdbd",
        ("/usr/sbin/slurmdbd", "-D"),
        ready=lambda: ports.is_open(site.ports["slurmdbd"]) and bool(output("sacctmgr", "-n", "show", "account", environment=site.slurm)),
        after=("munged", "mariadbd"),
        user="slurm",
        environment=site.slurm,
        prepare=lambda: _prepare_slurm(site),
        settle=lambda: _settle_accounts(site),
    )


def _settle_accounts(site: Site) -> None:
    known = output("sacctmgr", "-nP", "show", "assoc", "format=user,account", environment=site.slurm).split()
    people = [(person, account) for person in PEOPLE for account in person.accounts]
    if all(f"{person.user}|{account}" in known for person, account in people):
        return
    accounts = dict.fromkeys(account for _, account in people)
    lines = [f"add cluster {SYSTEM}", f"add account {','.join(accounts)} cluster={SYSTEM} description=site organization=site"]
    lines += [f"add user {person.user} account={account}" for person, account in people]
    lines += [f"modify user {person.user} set adminlevel=operator" for person in PEOPLE if person.operator]
    lines += ["add qos urgent", f"modify account {','.join(accounts)} set qos=normal,urgent"]
    lines += [f"add user root account={next(iter(accounts))} adminlevel=admin"]
    # one session for all: every start of sacctmgr waits out several delayed acknowledgements
    run("sacctmgr", "-iQ", said="\n".join(lines) + "\n", environment=site.slurm)


def _prepare_slurm(site: Site) -> None:
    owned(site.layout.run / "slurm", "slurm")
    owned(site.layout.data / "slurmctld", "slurm", 0o700)


def _slurmctld(site: Site) -> Program:
    return Program(
        "slurmctld",
        ("/usr/sbin/slurmctld", "-D"),
        ready=lambda: "is UP" in output("scontrol", "ping", environment=site.slurm),
        after=("slurmdbd",),
        user="slurm",
        environment=site.slurm,
    )


def _slurmd(site: Site, node: str) -> Program:
    return Program(
        f"slurmd-{node}",
        ("/usr/sbin/slurmd", "-D", "-N", node),
        ready=lambda: (
            output("sinfo", "-hN", "-n", node, "-p", "normal", "-o", "%t", environment=site.slurm).strip() in {"idle", "mix", "alloc"}
        ),
        after=("slurmctld",),
        environment=site.slurm,
    )
