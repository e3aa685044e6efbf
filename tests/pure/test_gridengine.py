"""What Grid Engine 8.1.9 prints, recorded, as our programs and the gateway read it; its commands are stand-ins that print it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from schemas.compute import JobRequest
from schemas.errors import CommandFailed, StillUnderWay
from workers.host import Command, Finished
from workers.schedulers import gridengine
from workers.schedulers.gridengine.options import options, seconds
from workers.schedulers.scheduler import Submission, Tails
from workers.streams import Source

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the stand-ins, the recorded accounting, and a home."""
    commands = {
        "qstat": f'case $* in *" -s z "*) ;; *-j*) cat {RECORDED}/qstat-j.xml ;; *) cat {tmp_path}/qstat.xml ;; esac',
        "qconf": f"cat {RECORDED}/qconf-sq.txt",
        "qacct": "exit 1",
        "qsub": f'printf "%s\\n" "$@" >>{tmp_path}/calls; /usr/bin/env -0 >{tmp_path}/env; pwd >{tmp_path}/pwd; echo 84.1-7:2',
        "qdel": 'echo "fcbob has registered the job-array task 85.1 for deletion"; echo "fcbob has deleted job 86"; '
        'echo "denied: job \\"99\\" does not exist"; exit 1',
        "id": "echo fcbob",
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "qstat.xml").write_text((RECORDED / "qstat.xml").read_text())
    (tmp_path / "default" / "common").mkdir(parents=True)
    (tmp_path / "default" / "common" / "accounting").write_text((RECORDED / "sge-accounting.txt").read_text())
    return tmp_path


def run(command: Command[Any], folder: Path, *, stdin: bytes | None = None) -> Any:
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SGE_ROOT": str(folder), "HOME": str(folder), "TZ": "UTC"}
    content = command.source().whole() if stdin is None else stdin
    done = subprocess.run(command.argv, input=content, capture_output=True, check=False, env=environment)
    return command.read(Finished(done.returncode, done.stdout, done.stderr))


def queued(folder: Path, ids: str | None = None) -> dict[str, Any]:
    return {job.jobid: job for job in run(gridengine.queue(ids=ids, user=None, tails=None), folder)}


def test_the_queue_is_read_whatever_names_and_variables_hold(folder: Path) -> None:
    jobs = queued(folder)

    assert {name: job.state for name, job in jobs.items()} == {
        "84": "RUNNING", "85_1": "RUNNING", "89": "SUSPENDED", "88": "FAILED", "85_[3-7:2]": "PENDING", "86": "PENDING", "87": "PENDING",
    }  # fmt: skip
    parallel = jobs["84"]
    assert (parallel.name, parallel.user, parallel.partition, parallel.nodes, parallel.nodelist) == (
        'a<b&"c', "fcbob", "normal", "1", "localhost",
    )  # fmt: skip
    assert parallel.start_time == "2026-11-22T20:14:26"
    assert parallel.stdout == parallel.stderr == '/tmp/fcbob.a<b&"c.84 localhost'
    assert {name: jobs[name].nodelist for name in ("85_[3-7:2]", "86", "87")} == {
        "85_[3-7:2]": "(Resources)", "86": "(JobHeldUser)", "87": "(Dependency)",
    }  # fmt: skip
    assert "can't chdir to /nonexist: No such file or directory" in jobs["88"].nodelist
    assert (jobs["86"].partition, jobs["87"].partition, jobs["87"].start_time) == ("debug,normal", "N/A", "N/A")
    assert jobs["85_1"].script == "/home/fcbob/rec/job.sh"
    assert jobs["85_1"].stderr == "/home/fcbob/rec/1 é"


def test_the_hosts_of_a_parallel_job_are_counted_once(folder: Path) -> None:
    listed = (folder / "qstat.xml").read_text().split("</job_list>")
    listed[1] = listed[1].replace("normal@localhost", "normal@other")
    (folder / "qstat.xml").write_text("</job_list>".join(listed))

    job = queued(folder)["84"]

    assert (job.nodes, job.nodelist) == ("2", "localhost,other")


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ("85", ["85_1", "85_[3-7:2]"]),
        ("85_1", ["85_1"]),
        ("85_5", ["85_[3-7:2]"]),
        ("85_4", []),
        ("85_[1-3]", ["85_1", "85_[3-7:2]"]),
        ("84,87,99", ["84", "87"]),
    ],
)
def test_ids_choose_jobs_and_tasks(folder: Path, ids: str, found: list[str]) -> None:
    (folder / "qacct").write_text("#!/bin/sh\n")  # knows every job

    assert list(queued(folder, ids)) == found


def test_a_job_that_never_was_is_an_error(folder: Path) -> None:
    with pytest.raises(CommandFailed, match="Invalid job id specified"):
        queued(folder, "99")
    for ids in ("12+0", "x", "-u"):
        with pytest.raises(CommandFailed, match="Invalid job id specified"):
            gridengine.queue(ids=ids, user=None, tails=None)
        with pytest.raises(CommandFailed, match="Invalid job id specified"):
            gridengine.cancel(ids)


def test_ends_of_files_come_for_the_jobs_asked_for(folder: Path) -> None:
    files = {"JB_stdout_path_list": folder / "out", "JB_stderr_path_list": folder / "err"}
    for name, path in files.items():
        path.write_text(f"long text of {name}\n")
    text = (folder / "qstat").read_text()
    (folder / "qstat").write_text(
        text.replace(f"cat {RECORDED}/qstat-j.xml", f"sed 's:/tmp/.USER.*HOSTNAME:{folder}/out:' {RECORDED}/qstat-j.xml")
    )

    first, *others = run(gridengine.queue(ids=None, user=None, tails=Tails(5, stop=1)), folder)
    later = run(gridengine.queue(ids=None, user=None, tails=Tails(5, start=1)), folder)

    assert (first.output, first.errors) == ("list", "list")
    assert {job.output for job in [*others, *later]} == {""}


def test_accounting_is_read_with_what_is_still_in_the_queue(folder: Path) -> None:
    jobs = {job.jobid: job for job in run(gridengine.accounting(ids="75,76,79,84,85,86,88,89", start="", end=""), folder)}

    assert {name: (job.state, job.exit_code) for name, job in jobs.items()} == {
        "75": ("FAILED", "0:9"), "76": ("FAILED", "100:0"), "79": ("TIMEOUT", "0:9"), "84": ("RUNNING", "0:0"), "85_1": ("RUNNING", "0:0"),
        "85_[3-7:2]": ("PENDING", "0:0"), "86": ("PENDING", "0:0"), "88": ("FAILED", "0:0"), "89": ("SUSPENDED", "0:0"),
    }  # fmt: skip
    slow = jobs["79"]
    assert (slow.start_time, slow.termination_time, slow.elapsed_time) == ("2026-11-22T20:13:44", "2026-11-22T20:13:46", "00:00:02")
    assert slow.time_left == slow.termination_time


def test_accounting_without_ids_is_the_user_s_own_in_the_time(folder: Path) -> None:
    (folder / "qstat.xml").write_text("<job_info>\n</job_info>\n")

    def found(start: str, end: str) -> list[tuple[str, str]]:
        return [(job.jobid, job.cpu_time) for job in run(gridengine.accounting(ids="", start=start, end=end), folder)]

    assert found("2026-11-22", "2036-01-01") == [("84", "00:00:34"), ("85_1", "00:00:15"), ("88", "00:00:00"), ("89", "00:00:11")]
    assert [name for name, _ in found("2026-11-22T20:00:00", "11/22/26-20:14:30")] == ["84", "85_1"]
    assert found("2026-11-23", "2036-01-01") == [("88", "00:00:00")]  # it never ended
    with pytest.raises(CommandFailed, match="start time requested is after end time"):
        found("2026-11-23", "2026-11-22")


def test_what_was_cancelled_is_remembered(folder: Path) -> None:
    with pytest.raises(CommandFailed, match='job "99" does not exist'):
        run(gridengine.cancel("85_1,86,87,99"), folder)
    (folder / "qstat.xml").write_text("<job_info>\n</job_info>\n")

    jobs = {job.jobid: job.state for job in run(gridengine.accounting(ids="85,86,87,89", start="", end=""), folder)}

    assert jobs == {"85_1": "CANCELLED", "86": "CANCELLED", "89": "FAILED"}


def test_who_may_not_cancel_is_told_so() -> None:
    message = 'fcalice - you do not have the necessary privileges to delete the job "6"'

    with pytest.raises(CommandFailed, match=r"^User does not have permission to cancel job$"):
        gridengine.cancel("6").read(Finished(1, message.encode(), b""))


def test_hosts_and_queues_are_nodes_and_partitions() -> None:
    shown = (RECORDED / "qhost.xml").read_bytes()

    (node,) = gridengine.nodes([]).parse(shown)
    debug, normal = gridengine.partitions().parse(shown)

    assert (node.node_name, node.partitions, node.state) == ("localhost", ["debug", "normal"], ["MIXED"])
    assert (debug.partition_name, debug.state, debug.total_cpus, debug.total_nodes) == ("debug", "UP", "4", "1")
    closed, gone = (shown.replace(b"'state_string'><", f"'state_string'>{state}<".encode()) for state in ("d", "au"))
    assert [node.state for node in gridengine.nodes([]).parse(closed)] == [["MIXED", "DRAIN"]]
    assert [node.state for node in gridengine.nodes([]).parse(gone)] == [["DOWN"]]
    assert {queue.state for queue in gridengine.partitions().parse(closed)} == {"DOWN"}
    assert (normal.state, normal.default) == ("UP", "NO")


def test_advance_reservations_are_read() -> None:
    (shown,) = gridengine.reservations().parse((RECORDED / "qrstat.xml").read_bytes())

    assert (shown.reservation_name, shown.state, shown.nodes, shown.start_time) == ("1", "ACTIVE", "localhost", "2026-11-22T20:14:37")
    assert gridengine.reservations().parse(b"") == []


def submission(folder: Path, **changes: Any) -> Submission:
    request = JobRequest(**changes.pop("request", {}))
    facts = {
        "folder": f"{folder}/job",
        "script": "s.sh",
        "content": Source.of(b"#!/bin/sh\n"),
        "options": (),
        "parallel_environment": "smp",
    }
    return Submission(receipts=f"{folder}/job/.firecrest", request=request, **{**facts, **changes})


VALUES = {"COMMAS": "a,b=c", "LINES": "one\n\\two\\n\n\n", "QUOTES": "'\" $HOME `id`", "LETTERS": "é 🦀", "EMPTY": "", "PATH": "/nowhere"}


def test_a_submission_is_made_once_with_its_variables_intact(folder: Path) -> None:
    command = gridengine.submit(submission(folder, request={"env": VALUES, "job_name": "named"}, options=("-p", "-5")))

    first, again = run(command, folder), run(command, folder)

    assert first == again
    assert (first.jobid, first.job_file_out) == ("84", '/tmp/fcbob.a<b&"c.84 localhost')
    called = (folder / "calls").read_text().splitlines()
    assert called == ["-terse", "-cwd", "-p", "-5", "-N", "named", "-v", ",".join(VALUES), "-sync", "n", "./s.sh"]
    found = dict(pair.split("=", 1) for pair in (folder / "env").read_text().split("\0") if pair)
    assert {name: found.get(name) for name in VALUES} == VALUES
    assert (folder / "pwd").read_text() == f"{folder}/job\n"
    assert not any(VALUES["COMMAS"] in word or VALUES["LETTERS"] in word for word in command.argv)
    assert sorted(path.name for path in (folder / "job" / ".firecrest").iterdir()) == ["lock", "receipt", "refused"]


def test_a_script_that_came_in_part_is_not_submitted(folder: Path) -> None:
    command = gridengine.submit(submission(folder, content=Source.of(b"x" * 100_000)))

    with pytest.raises(StillUnderWay, match="only a part"):
        run(command, folder, stdin=command.source().whole()[:40_000])
    assert not (folder / "calls").exists()


def test_a_refusal_is_told_in_grid_engine_s_own_words(folder: Path) -> None:
    (folder / "qsub").write_text("#!/bin/sh\necho 'Unable to run job: no such directory.' >&2; exit 1\n")

    with pytest.raises(CommandFailed, match=r"^Unable to run job: no such directory\.$"):
        run(gridengine.submit(submission(folder)), folder)


def asked(**request: Any) -> list[str]:
    job = Submission(
        receipts="/r", folder="/f", script="s.sh", content=None, request=JobRequest(**request), options=(), parallel_environment="smp"
    )
    return options(job)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"account": "p", "partition": "a,b"}, ["-P", "p", "-q", "a,b"]),
        ({"time": "1-02:03:04"}, ["-l", "h_rt=93784"]),
        ({"ntasks": "2", "cpus_per_task": "3", "memory": "6G"}, ["-pe", "smp", "6", "-l", "h_vmem=1024M"]),
        ({"ntasks": "1", "nodes": "1", "memory": "1500K"}, ["-l", "h_vmem=2M"]),
        ({"dependency": "afterany:1:2,afterany:3"}, ["-hold_jid", "1,2,3"]),
        ({"array": "1-9:2%4"}, ["-t", "1-9:2", "-tc", "4"]),
        ({"array": "7"}, ["-t", "7"]),
        ({"begin": "2026-11-22T10:00"}, ["-a", "202611221000.00"]),
        ({"reservation": "4", "output": "o:u", "error": "/e"}, ["-ar", "4", "-o", ":o:u", "-e", ":/e"]),
    ],
)
def test_what_a_job_asks_for_is_said_in_qsub_s_words(request_: dict[str, Any], words: list[str]) -> None:
    assert asked(**request_) == words


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("qos", "high"), ("gpus", "1"), ("constraint", "x"), ("nodes", "2"), ("nodes", "1-2"),
        ("array", "0-3"), ("array", "1,3"), ("begin", "now+1hour"), ("dependency", "afterok:1"), ("dependency", "afterany:1_2"),
        ("reservation", "maintenance"), ("job_name", "a b"), ("job_name", "1a"), ("output", "a,b"),
    ],
)  # fmt: skip
def test_what_grid_engine_cannot_do_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(CommandFailed, match=f"^'{to_camel(field)}' "):
        asked(**{field: value})


@pytest.mark.parametrize(("name", "words"), [("job.sh", []), ("1é b", ["-N", "_1__b"]), ("-x", ["-N", "_-x"])])
def test_a_job_is_called_like_its_script_where_it_can_be(name: str, words: list[str]) -> None:
    job = Submission(receipts="/r", folder="/f", script=name, content=None, request=JobRequest(), options=())

    assert options(job) == words
    assert gridengine.submit(job).argv[-1] == f"./{name}"


@pytest.mark.parametrize(("time", "expected"), [("5", 300), ("5:30", 330), ("1:00:00", 3600), ("2-1", 176400), ("2-1:30", 178200)])
def test_times_are_slurm_s(time: str, expected: int) -> None:
    assert seconds(time) == expected
