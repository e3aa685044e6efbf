"""The queue: the gateway's program around what squeue of Slurm 22.05 prints, run by real shells and awks."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import CommandFailed
from workers.host import Command, Finished
from workers.schedulers.scheduler import Queued, Tails
from workers.schedulers.squeue import queue

RECORDED = Path(__file__).parent / "recorded"
AWKS = [name for name in ("mawk", "gawk", "original-awk", "busybox") if shutil.which(name)]
FIELDS = (
    *("jobid", "partition", "name", "user", "state", "start", "time", "left", "nodes", "reason"),
    *("script", "out", "err", "id", "array", "task", "submitted"),
)
OLD = "2026-11-22T17:12:44"

Run = Callable[[Command], Finished]


@pytest.fixture(params=[(shell, awk) for shell in ("dash", "bash") for awk in AWKS], ids="-".join)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs the program with one shell and one awk, and with a squeue that prints the file `said`."""
    shell, awk = request.param
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "awk").symlink_to(shutil.which(awk))
    (programs / "sh").symlink_to(shutil.which(shell))
    # told its token like the true one: behind the colons of --Format
    squeue = f"""#!/bin/sh
for word; do case $word in --Format=*) token=${{word##*:}} ;; esac; done
sed "s/@SEP@/$token/g" '{tmp_path}/said'
"""
    (programs / "squeue").write_text(squeue)
    (programs / "squeue").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(command: Command) -> Finished:
        done = subprocess.run([shell, "-c", command.line()], capture_output=True, check=False, env=environment, timeout=30)
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


def said(tmp_path: Path, *jobs: dict[str, str]) -> None:
    facts = {"script": "(null)", "out": "(null)", "err": "(null)", "state": "RUNNING", "user": "ann", "task": "N/A", "submitted": OLD}
    records = ("".join(f"{({'id': job['jobid'], **facts, **job}).get(name, '')}@SEP@" for name in FIELDS) for job in jobs)
    (tmp_path / "said").write_text("\n".join([*records, ""]))


def asked(run: Run, *, ids: str | None = None, tails: Tails | None = None) -> list[Queued]:
    command = queue(ids=ids, user="ann", tails=tails)
    return command.read(run(command))


def test_the_queue_is_read_whatever_names_hold(run: Run, tmp_path: Path) -> None:
    shutil.copy(RECORDED / "squeue.txt", tmp_path / "said")

    pending, running, defaulted, odd = asked(run)

    assert (pending.jobid, pending.state, pending.has_output, pending.nodelist) == ("63_[2-3%1]", "PENDING", False, "(JobArrayTaskLimit)")
    assert (running.state, running.has_output, running.nodelist) == ("RUNNING", True, "n1")
    assert (running.start_time, running.time, running.time_left, running.nodes) == ("2026-11-22T20:01:40", "0:00", "1-00:00:00", "1")
    assert running.script == ""
    assert running.stdout == "/home/fcalice/arr-0001-63.out"
    assert defaulted.stdout == defaulted.stderr == "/home/fcalice/slurm-64_7.out"
    assert (odd.name, odd.stdout) == ("na|me .:. é\nx", "/home/fcalice/slurm-65.out")


def test_an_empty_queue_has_no_jobs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "said").touch()

    assert asked(run) == asked(run, ids="1", tails=Tails(10)) == []


def test_what_squeue_refuses_is_told_in_its_words(run: Run, tmp_path: Path) -> None:
    squeue = tmp_path / "bin" / "squeue"
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1\n")

    with pytest.raises(CommandFailed, match=r"^slurm_load_jobs error: Invalid job id specified$"):
        asked(run, ids="9")


@pytest.mark.parametrize(
    ("pattern", "filled"),
    [
        ("/f/%j-%J-%A.out", "/f/71-71-70.out"),
        ("/f/%x.%u.%4a", "/f/na me.ann.0003"),
        ("/f/100%%j", "/f/100%j"),
        ("/f/%25j", "/f/0000000071"),
        ("/f/%N-%t", "/f/%N-%t"),
        ("/f/slurm-71.out", "/f/slurm-70_3.out"),
        (r"/f/b\a\n%a", r"/f/b\a\n3"),
        ("/f/%", "/f/%"),
        ("/f/ä%jö", "/f/ä71ö"),
        ("(null)", ""),
    ],
)
def test_file_names_are_filled_in(run: Run, tmp_path: Path, pattern: str, filled: str) -> None:
    said(tmp_path, {"jobid": "70_3", "id": "71", "array": "70", "task": "3", "name": "na me", "out": pattern, "err": pattern})

    (job,) = asked(run)

    assert (job.stdout, job.stderr) == (filled, filled)


def test_the_ends_of_files_are_read_and_what_is_no_file_is_empty(run: Run, tmp_path: Path) -> None:
    names = {
        name: tmp_path / name for name in ("text", "odd ' \" $(id) `x` \\n é", "binary", "-n", "pipe", "missing", "folder", "a\nb", "x\n")
    }
    names["text"].write_text("one\ntwo\nthree\n")
    names["odd ' \" $(id) `x` \\n é"].write_text("odd\n\n")
    names["binary"].write_bytes(bytes(range(256)) * 4)
    names["-n"].write_text("dash")
    names["a\nb"].write_text("never")
    names["x\n"].write_text("never")
    names["folder"].mkdir()
    os.mkfifo(names["pipe"])
    said(tmp_path, *({"jobid": str(at), "out": str(path), "err": str(names["text"])} for at, path in enumerate(names.values())))

    jobs = {job.stdout.removeprefix(f"{tmp_path}/"): job for job in asked(run, tails=Tails(9))}

    assert {name: job.output for name, job in jobs.items()} == {
        "text": "wo\nthree",
        "odd ' \" $(id) `x` \\n é": "odd\n",
        "binary": bytes(range(247, 256)).decode(errors="replace"),
        "-n": "dash",
        **dict.fromkeys(("pipe", "missing", "folder", "a\nb", "x\n"), ""),
    }
    assert {job.errors for job in jobs.values()} == {"wo\nthree"}
    assert stat.S_ISFIFO(names["pipe"].stat().st_mode)


def test_a_file_that_hangs_costs_only_what_comes_after_it(tmp_path: Path) -> None:
    # "tail" hangs as it would on a file system that does not answer
    for name, text in {
        "tail": "case $* in *hangs) sleep 60 ;; *) echo read ;; esac",
        "squeue": f"sed s/@SEP@/$1/g {tmp_path}/said",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("first", "hangs", "last"):
        (tmp_path / name).write_text("something")
    said(tmp_path, *({"jobid": name, "out": str(tmp_path / name)} for name in ("first", "hangs", "last")))
    command = queue(ids=None, user=None, tails=Tails(9))
    token = command.argv[5]
    words = [word if word != "--noheader" else token for word in command.argv]

    done = subprocess.run(
        words, capture_output=True, check=False, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, timeout=30
    )

    jobs = command.read(Finished(done.returncode, done.stdout, done.stderr))
    assert [(job.stdout, job.output) for job in jobs] == [
        (str(tmp_path / name), text) for name, text in (("first", "read"), ("hangs", ""), ("last", ""))
    ]


def test_only_the_files_of_the_page_are_read_and_only_of_jobs_that_may_have_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("said")
    states = ("RUNNING", "PENDING", "CONFIGURING", "COMPLETING", "RUNNING", "RUNNING")
    said(tmp_path, *({"jobid": str(at), "state": state, "out": str(tmp_path / "out")} for at, state in enumerate(states)))

    assert [job.output for job in asked(run, tails=Tails(9))] == ["said", "", "", "said", "said", "said"]
    assert [job.output for job in asked(run, tails=Tails(9, 1, 4))] == ["", "", "", "said", "", ""]
    assert [job.output for job in asked(run, tails=Tails(9, 4, 40))] == ["", "", "", "", "said", "said"]
    assert [job.output for job in asked(run, tails=None)] == [""] * 6
    assert all(job.stdout == str(tmp_path / "out") for job in asked(run))


def test_a_job_that_has_ended_is_left_out_unless_it_was_submitted_just_now(run: Run, tmp_path: Path) -> None:
    now = "2999-01-01T00:00:00"
    (tmp_path / "out").write_text("said")
    jobs = [("1", "COMPLETED", OLD), ("2", "RUNNING", OLD), ("3", "COMPLETED", now), ("4", "CANCELLED", OLD), ("5", "FAILED", now)]
    said(tmp_path, *({"jobid": job, "state": state, "submitted": at, "out": str(tmp_path / "out")} for job, state, at in jobs))

    found = asked(run, ids="1,2,3,4,5", tails=Tails(9, 1, 2))

    assert [(job.jobid, job.state, job.output) for job in found] == [("2", "RUNNING", ""), ("3", "COMPLETED", "said"), ("5", "FAILED", "")]


def test_only_the_tasks_and_components_asked_for_are_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("said")
    shown = ["7_1", "7_2", "7_[3-9:2%2]", "8+0", "8+1", "9_[1-2]", "10_5"]
    said(tmp_path, *({"jobid": job, "out": str(tmp_path / "out")} for job in shown))

    def ids(text: str) -> list[str]:
        found = asked(run, ids=text, tails=Tails(9, 0, 1))
        assert {job.output for job in found} <= {"said"}
        return [job.jobid for job in found if not job.jobid.startswith(("9", "10"))]

    assert ids("7_[2-4]") == ["7_2", "7_[3-9:2%2]", "8+0", "8+1"]
    assert ids("7_[4-4],8+1") == ["8+1"]
    assert ids("7_[1-1],7_2,8") == ["7_1", "7_2", "8+0", "8+1"]
    assert ids("7,7_[1-1]") == shown[:5]


def test_filters_are_words_of_their_own() -> None:
    argv = queue(ids="1,2_[1-4],3+0", user="ann", tails=None).argv

    assert {"--jobs=1,2,3+0", "--user=ann", "--states=all"} < set(argv)
    assert not {"--states=all"} & set(queue(ids=None, user=None, tails=None).argv)
