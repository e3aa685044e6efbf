"""The list for forced-command sites holds all that workers run on a system, and is made of their own code."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from deploy.firecrest_command import allowed
from schemas.compute import JobRequest
from schemas.places import Place
from schemas.settings import System
from tests.pure.test_reservations import CREATE, UPDATE
from workers import access, archives, contents, copies, probes, trees, utilities
from workers.command_lists import command_list, like, programs, rules
from workers.confinement import Confinement
from workers.copies import Run
from workers.host import Command
from workers.schedulers import gridengine, scontrol, slurm
from workers.schedulers.scheduler import Scheduler, Submission, Tails
from workers.streams import Source

ROOT = Path(__file__).parents[2]
ODD = "/x  y/$(id);'\"\n--ünï \udcff"
RUN = Run(ODD, 12, 10**12, 67108864)
SYSTEMS = {
    name: System(
        name=name,
        host="h",
        host_keys=("none",),
        scheduler=name,
        sbatch_options=("--constraint=gpu", "-C", "x") if name == "slurm" else ("-l", "exclusive=1"),
        reservation_command=("/opt/site/reservations", "--quiet"),
    )
    for name in ("slurm", "gridengine")
}


def _jobs(scheduler: Scheduler, system: System) -> list[Command[Any]]:
    plain = JobRequest()
    full = JobRequest.model_validate({"env": {"A": "1"}, "account": "a", "job_name": "n", "partition": "p", "time": "10", "memory": "1G"})
    ids = ("", "12", "12_3,45")
    submitted = [
        Submission(ODD, ODD, "script", content, request, system.sbatch_options, "smp")
        for content in (None, Source.of(b"x" * 5000))
        for request in (plain, full)
    ]
    return [
        *map(scheduler.submit, submitted),
        *(scheduler.queue(ids=one or None, user=user, tails=tails) for one, user, tails in product(ids, (None, "fcalice"), TAILS)),
        *(scheduler.accounting(ids=one, start=start, end=end) for one, start, end in product(ids, MOMENTS, MOMENTS)),
        *(scheduler.cancel(one) for one in ids[1:]),
        *(scheduler.nodes(names) for names in ((), ("n1", "n2"))),
        scheduler.partitions(),
        scheduler.reservations(),
        scheduler.ping(),
    ]


TAILS = (None, Tails(1000), Tails(0, 25, 50))
MOMENTS = ("", "2026-11-29", "2026-11-29T10:11:12", "10:11")


def _slurms(system: System) -> list[Command[Any]]:
    waiting = Submission("/r", "/f", "s", None, JobRequest(), system.sbatch_options, after=("1", "2_3", "4_*"))
    return [*_jobs(slurm, system), slurm.submit(waiting)]


FILES: Mapping[str, list[Command[Any]]] = {
    "access.readable": [access.readable(ODD, seconds=5)],
    "access.readable_directory": [access.readable_directory(ODD, seconds=5)],
    "access.writable": [access.writable(path, seconds=5) for path in (ODD, "relative", "/", "//x/")],
    "contents.replacement": [contents.replacement(ODD, Source.of(bytes(10**6)), seconds=5)],
    "copies.command": [
        copies.fetch(RUN, "http://store/x", temporary=ODD, etag="abc-12", seconds=5),
        copies.send(RUN, ["http://store/x"] * 9, path=ODD, version="1 2 3.4", seconds=5),
        copies.place(ODD, temporary=ODD, target=ODD, seconds=5),
        copies.clear(ODD, temporary="", seconds=5),
        copies.clear(ODD, temporary=ODD, seconds=5),
        trees.measure(RUN, path=ODD, seconds=5),
        trees.send(RUN, ["http://store/x"], path=ODD, version="a" * 64, seconds=5),
        trees.prepare(ODD, seconds=5),
        trees.unpack(RUN, work=ODD, seconds=5),
        trees.place(ODD, work=ODD, target=ODD, seconds=5),
    ],
    "copies.look": [copies.look(RUN, seconds=5), copies.look(RUN, temporary=ODD, seconds=5)],
    "copies.resolve": [copies.resolve(ODD, ODD, seconds=5)],
    "copies.measure": [copies.measure(ODD, seconds=5)],
    "trees.locate": [trees.locate(ODD, seconds=5)],
    "trees.resolve": [trees.resolve(ODD, ODD, seconds=5)],
    "trees.results": [trees.results(ODD, seconds=5)],
    "probes.look_into": [probes.look_into(paths, seconds=3) for paths in ([], ["/home"], ["/home", ODD])],
}
SCHEDULERS: Mapping[str, Callable[[System], list[Command[Any]]]] = {
    "slurm": _slurms,
    "gridengine": lambda system: _jobs(gridengine, system),
}
# What makes commands otherwise: seen where the service runs as a whole (tests/served, whose host knows the list), or just below.
ELSEWHERE = {
    "listing.ls",
    "archives.compress",
    "archives.extract",
    "compute.reachable",
    "transfer_jobs._default_account",
    "utilities.utility",
    "reservations._check_start",
    "reservations._command",
    # the words of a job, which are not run on a login node
    "transfer_jobs.script",
    "command_lists.like",
}
BY_SCHEDULERS = {"slurm", "squeue", "sacct", "receipts", "jobs", "accounting", "cluster"}


def _makers() -> set[str]:
    """The functions of workers that make commands, by their modules."""
    found = set()
    for path in (ROOT / "workers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(map(_makes_command, ast.walk(node))):
                found.add(f"{path.stem}.{node.name}")
    return found


def _makes_command(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Command"


def test_the_tests_know_every_function_that_makes_a_command() -> None:
    """Whoever adds one: a rule in `workers/command_lists.py`, and an example here or a test in tests/served."""
    makers = {name for name in _makers() if name.partition(".")[0] not in BY_SCHEDULERS}
    assert makers - ELSEWHERE == set(FILES)


@pytest.mark.parametrize("name", SYSTEMS)
def test_commands_for_files_are_on_every_list(name: str) -> None:
    known = rules(SYSTEMS[name])
    for made, commands in FILES.items():
        for command in commands:
            assert allowed(list(command.argv), known), made


@pytest.mark.parametrize("name", SYSTEMS)
def test_commands_of_the_scheduler_are_on_the_list(name: str) -> None:
    known = rules(SYSTEMS[name])
    for command in SCHEDULERS[name](SYSTEMS[name]):
        assert allowed(list(command.argv), known), command.argv


@pytest.mark.parametrize(
    "argv",
    [
        utilities.moving(ODD, ODD),
        utilities.copying(ODD, ODD),
        utilities.removing(ODD),
        archives.packing(ODD, ODD, dereference=True),
        archives.packing("relative", "x", dereference=False),
        *(archives.unpacking(ODD, ODD, kind=kind) for kind in ("zip", "tar", "gz", "tgz", "bz2", "xz")),
        ("file", "-E", "-b", "--", ODD),
        ("tail", "--lines=+3", "--", ODD),
        ("head", "--bytes=-7", "--", "./-"),
        *(scontrol.reservation(op) for op in (CREATE, UPDATE)),
    ],
    ids=str,
)
def test_what_the_rest_says_is_on_slurms_list(argv: tuple[str, ...]) -> None:
    assert allowed(list(argv), rules(SYSTEMS["slurm"]))


@pytest.mark.parametrize(
    "options", [("-l",), ("-a", "acc", "1", "gpu", "a", "b", "name"), ("-u", "name", "1", "x", "a", "b"), ("-d", "name")]
)
def test_the_sites_own_command_for_reservations_is_on_its_list_alone(options: tuple[str, ...]) -> None:
    argv = ["/opt/site/reservations", "--quiet", *options]
    assert allowed(argv, rules(SYSTEMS["slurm"]))
    assert not allowed(argv, rules(SYSTEMS["slurm"].model_copy(update={"reservation_command": ()})))
    assert not allowed([*argv, "more"], rules(SYSTEMS["slurm"]))


def test_a_scheduler_that_the_system_has_not_is_not_on_its_list() -> None:
    assert not allowed(list(gridengine.ping().argv), rules(SYSTEMS["slurm"]))
    assert not allowed(list(slurm.ping().argv), rules(SYSTEMS["gridengine"]))


def test_every_program_that_a_rule_names_is_in_the_list_as_text() -> None:
    named = {
        slot["program"]
        for system in SYSTEMS.values()
        for rule in rules(system).values()
        for slot in rule
        if "program" in slot and slot != "program"
    }
    assert named
    assert named <= set(programs())


def test_no_two_of_a_system_with_other_settings_differ_in_more_than_they_say() -> None:
    one = command_list(SYSTEMS["slurm"], ["ssh-ed25519 AAAA comment"])
    assert one == command_list(SYSTEMS["slurm"], ["ssh-ed25519 AAAA"])
    assert one["environment"] == {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def test_the_list_is_printed_by_a_command(tmp_path: Path) -> None:
    import yaml

    settings = {
        "systems": [{"name": "forced", "host": "h", "host_keys": ["none"], "forced_environment": {"SLURM_CONF": "/etc/slurm.conf"}}],
        "issuers": [{"jwks_url": "http://127.0.0.1:9/none"}],
        "broker": {"url": "redis://127.0.0.1:9"},
        "keys": {"private": "/none", "public": "/none"},
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    (tmp_path / "ca.pub").write_text(f"{key} firecrest-user-ca\n")
    command = [sys.executable, "-m", "workers.command_lists"]
    environment = {"FIRECREST_SETTINGS": str(tmp_path / "settings.yaml"), "PATH": "/usr/bin"}

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, check=False)

    printed = json.loads(run("forced", str(tmp_path / "ca.pub")).stdout)
    assert printed["authorities"] == ["SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"]
    assert printed["environment"]["SLURM_CONF"] == "/etc/slurm.conf"
    assert printed["commands"] == json.loads(json.dumps(rules(System.model_validate(settings["systems"][0]))))
    assert b"there is no system nowhere" in run("nowhere", str(tmp_path / "ca.pub")).stderr


def test_a_command_behind_the_allowed_paths_is_on_the_list_with_just_these_paths() -> None:
    system = SYSTEMS["slurm"].model_copy(update={"allowed_paths": ("/scratch", "/home/{user}")})
    bounds = Confinement(("/scratch", "/home/alice"), (Place("/x"), Place(ODD)))
    for commands in FILES.values():
        for command in commands:
            assert allowed(list(bounds.words(command.argv)), rules(system))
    removing = utilities.removing("/x")
    assert not allowed(list(Confinement(("/",), bounds.places).words(removing)), rules(system))
    assert not allowed(list(Confinement(("/scratch", "/home/alice/../.."), bounds.places).words(removing)), rules(system))
    assert not allowed(list(bounds.words(("sh", "-c", "id"))), rules(system))


def test_a_random_token_that_happens_to_have_no_letter_is_none_the_less_one() -> None:
    rule = like(["rm", "1234567890123456", "12"])

    assert allowed(["rm", "00ff00ff00ff00ff", "7"], {"one": rule})
    assert not allowed(["rm", "00ff00ff00ff00ff", "ff"], {"one": rule})
