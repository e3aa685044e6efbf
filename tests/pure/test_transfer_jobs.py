"""Transfer jobs: what may be asked for, what the scheduler is asked, and their scripts, which are run here."""

import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from api.requests import refusal
from schemas.errors import CommandFailed, InvalidParameter
from schemas.operation import Operation
from schemas.settings import Limits, Settings, System
from schemas.transfer_jobs import CompressJob, CopyJob, ExtractJob, MoveJob, RemoveJob, RsyncJob, TransferJob
from workers.host import Command, Finished
from workers.performing import PERFORMERS, Scene
from workers.transfer_jobs import script

PAIR = {"targetPath": "/t", "sourcePath": "/s.tar"}
JOBS: list[type[TransferJob]] = [CopyJob, MoveJob, RsyncJob, RemoveJob, CompressJob, ExtractJob]
NAMES = ("plain", "two  blanks ", "ü 日本 🦀", "-rf", "--help", "[a-z]?", "*", "a:b", "::a", "$HOME", "~", "{a,b}", "#x", "!x", "%j")


class Recording:
    """A host that keeps commands instead of running them; it tells `staff` of whoever asks for the group."""

    def __init__(self) -> None:
        self.commands: list[Command[Any]] = []

    def run(self, command: Command[Any]) -> Any:
        """The reading of what such a command might print."""
        self.commands.append(command)
        return command.read(Finished(0, b"staff\n", b"")) if command.argv[0] == "id" else None

    def proven(self) -> bool:
        """Nobody has to enter."""
        return True


def submitted(op: TransferJob, **facts: Any) -> list[Command[Any]]:
    """The commands that submit an operation's job on a system of these facts."""
    host, system = Recording(), System(name="here", host="h", host_keys=("k",), **facts)
    PERFORMERS[type(op)](op, host, Scene("t1", "u", system, Limits(), None))  # type: ignore[arg-type]
    return host.commands


def text(op: TransferJob) -> str:
    """The batch script of an operation."""
    return submitted(op)[-1].source().whole().decode()


def run(op: TransferJob, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the batch script of an operation as a job would, elsewhere than at home."""
    place = home / "job folder"
    place.mkdir(exist_ok=True)
    (place / "sbatch-job.sh").write_text(text(op))
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return subprocess.run(["bash", "sbatch-job.sh"], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=30)


def made(kind: type[TransferJob], source: str, target: str, **fields: Any) -> TransferJob:
    return kind.model_validate({"sourcePath": source, "targetPath": target, **fields})


@pytest.mark.parametrize("name", NAMES)
def test_names_mean_nothing_to_shell_and_tools(tmp_path: Path, name: str) -> None:
    (tmp_path / "in" / name).mkdir(parents=True)
    (tmp_path / "in" / name / "file").write_text("content")
    (tmp_path / "here").mkdir()
    for op in (
        made(CopyJob, f"in/{name}", f"copied {name}"),
        made(RsyncJob, f"in/{name}/", f"synced {name}"),
        made(CompressJob, f"in/{name}", f"{name}.tgz"),
        made(ExtractJob, f"{name}.tgz", "here"),
        made(MoveJob, f"here/{name}", f"moved {name}"),
        RemoveJob.model_validate({"targetPath": f"in/{name}"}),
    ):
        done = run(op, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), op
    for place in ("copied", "synced", "moved"):
        assert (tmp_path / f"{place} {name}" / "file").read_text() == "content"
    assert not (tmp_path / "in" / name).exists()


def test_names_that_begin_like_options_or_hosts_are_files_at_home(tmp_path: Path) -> None:
    for name in ("-a", "host:x", "::rsync"):
        (tmp_path / name).write_text(name)
        for kind in (CopyJob, RsyncJob, CompressJob):
            done = run(made(kind, name, f"-to:{kind.command()}"), tmp_path)
            assert (done.returncode, done.stderr) == (0, ""), (kind, name)
        assert (tmp_path / "-to:cp").read_text() == (tmp_path / "-to:rsync").read_text() == name
        with tarfile.open(tmp_path / "-to:compress") as archive:
            assert archive.getnames() == [name]


@pytest.mark.parametrize(
    ("op", "said"),
    [
        (made(CopyJob, "missing", "t"), "No such file or directory"),
        (made(CopyJob, "file", "missing/t"), "No such file or directory"),
        (made(CopyJob, "file", "file/t"), "Not a directory"),
        (made(CopyJob, "folder", "file"), "cannot overwrite non-directory"),
        (made(MoveJob, "missing", "t"), "No such file or directory"),
        (made(MoveJob, "folder", "file"), "cannot overwrite non-directory"),
        (made(RsyncJob, "missing", "t"), "No such file or directory"),
        (made(RsyncJob, "file", "missing/place/t"), "No such file or directory"),
        (RemoveJob(target_path="."), "refusing to remove"),
        (made(CompressJob, "missing", "t.tgz"), "No such file or directory"),
        (made(CompressJob, "file", "folder"), "Is a directory"),
        (made(ExtractJob, "missing.tar", "folder"), "No such file or directory"),
        (made(ExtractJob, "folder.zip", "folder"), "folder.zip"),
        (made(ExtractJob, "file", "folder", extension="tar"), "does not look like a tar archive"),
        (made(ExtractJob, "tiny.gz", "folder"), "There are no files in the archive"),
        (made(ExtractJob, "good.tar", "file"), "Not a directory"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_job_fails_with_its_command_and_says_why(tmp_path: Path, op: TransferJob, said: str) -> None:
    (tmp_path / "file").write_text("x" * 1000)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "tiny").write_text("x")
    subprocess.run(["gzip", tmp_path / "tiny"], check=True)
    subprocess.run(["tar", "-cf", tmp_path / "good.tar", "-C", tmp_path, "file"], check=True)

    done = run(op, tmp_path)

    assert done.returncode != 0
    assert said in done.stderr


def test_a_job_that_deletes_what_is_not_there_has_nothing_to_do(tmp_path: Path) -> None:
    done = run(RemoveJob(target_path="missing"), tmp_path)

    assert (done.returncode, done.stderr) == (0, "")


def test_what_cannot_be_carried_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        script(("rm", "--", "a\ud800"))


def test_the_scheduler_is_asked_for_just_this() -> None:
    asked = {"stageOutJobId": "12:13_4", "account": "a", "jobName": "j j", "time": "1-2:30"}
    words = submitted(made(CopyJob, "/s", "/t", **asked), transfer_partition="xfer", transfer_constraint="a&b", sbatch_options=("--x",))[
        0
    ].argv

    assert words[words.index("sbatch") + 1 :] == (
        "--account=a", "--job-name=j j", "--partition=xfer", "--time=1-2:30", "--ntasks=1", "--constraint=a&b",
        "--output=job-%j.out", "--error=job-%j.err", "--dependency=afterok:12:13_4", "--kill-on-invalid-dep=yes",
        "--chdir=/home/u/firecrest/t1", "--x", "--", "sbatch-job.sh",
    )  # fmt: skip


@pytest.mark.parametrize("kind", JOBS, ids=lambda kind: kind.command())
def test_name_and_time_have_defaults(kind: type[TransferJob]) -> None:
    words = submitted(kind.model_validate(PAIR))[0].argv

    assert {f"--job-name={kind.command()}-job", "--time=02:00:00"} <= set(words)
    assert not [word for word in words if word.startswith(("--partition", "--constraint", "--dependency", "--account"))]


def test_whoever_names_no_account_is_charged_to_the_primary_group_where_that_is_so() -> None:
    op = CopyJob.model_validate(PAIR)

    group, job = submitted(op, primary_group_account=True)
    (own,) = submitted(op.model_copy(update={"account": "mine"}), primary_group_account=True)

    assert group.argv == ("id", "-gn")
    assert "--account=staff" in job.argv
    assert "--account=mine" in own.argv


def test_on_grid_engine_it_waits_for_no_success_and_its_output_is_called_alike() -> None:
    (job,) = submitted(CopyJob.model_validate(PAIR), scheduler="gridengine")
    words = " ".join(job.argv)

    assert "-N cp-job" in words
    assert "-o :job-$JOB_ID.out -e :job-$JOB_ID.err" in words
    with pytest.raises(CommandFailed, match="waits for the end of jobs however they end"):
        submitted(made(CopyJob, "/s", "/t", stageOutJobId="1"), scheduler="gridengine")


def test_the_asynchronous_client_s_spelling_of_the_name_is_understood() -> None:
    op = CopyJob.model_validate({**PAIR, "jobname": "said"})

    assert "--job-name=said" in submitted(op)[0].argv
    assert CopyJob.model_validate({**PAIR, "jobname": "not", "jobName": "this"}).job_name == "this"
    assert refused(CopyJob, **PAIR, jobname="a;b") == {"description": "Invalid jobName", "error": "'jobName' has invalid char"}


def refused(kind: type[Operation], **form: str) -> dict[str, Any]:
    """The body of the answer to a form that is refused."""
    with pytest.raises(ValidationError) as wrong:
        kind.model_validate(form)
    return refusal(kind, wrong.value).body(kind.route.fails)


def test_what_is_wrong_is_told_in_the_contracts_order() -> None:
    form = dict.fromkeys(("targetPath", "sourcePath", "extension", "jobName", "time", "stageOutJobId", "account"), "a;b")
    expected = [
        ("targetPath", {"description": "Error on extract operation", "error": "'targetPath' has invalid char"}),
        ("sourcePath", {"description": "Error on extract operation", "error": "'sourcePath' has invalid char"}),
        ("extension", {"description": "Error on extract operation", "error": "Unsupported file format in 1."}),
        ("jobName", {"description": "Invalid jobName", "error": "'jobName' has invalid char"}),
        ("time", {"error": "Not supported time format"}),
        ("stageOutJobId", {"description": "Invalid stageOutJobId", "error": "'stageOutJobId' has invalid char"}),
        ("account", {"description": "Invalid account", "error": "'account' has invalid char"}),
    ]
    for name, body in expected:
        assert refused(ExtractJob, **form) == body
        form[name] = ".tar" if name == "extension" else "1"


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ({}, {"description": "Error on cp operation", "error": "'targetPath' not specified"}),
        ({"targetPath": ""}, {"description": "Error on cp operation", "error": "'targetPath' is empty"}),
        ({"targetPath": "/t"}, {"description": "Error on cp operation", "error": "'sourcePath' not specified"}),
        ({**PAIR, "jobName": ""}, {"description": "Invalid jobName", "error": "'jobName' is empty"}),
        ({**PAIR, "time": ""}, {"error": "Not supported time format"}),
        ({**PAIR, "stageOutJobId": ""}, {"description": "Invalid stageOutJobId", "error": "'stageOutJobId' is empty"}),
        (
            {**PAIR, "stageOutJobId": "1,afterany:2"},
            {"description": "Invalid stageOutJobId", "error": "'stageOutJobId' is not a job id, or several with ':' between"},
        ),
        ({**PAIR, "account": ""}, {"description": "Invalid account", "error": "'account' is empty"}),
    ],
)
def test_bodies_are_the_contracts(form: dict[str, str], body: dict[str, str]) -> None:
    assert refused(CopyJob, **form) == body


@pytest.mark.parametrize("time", ["0", "00:00:00", "1:60", "1-24", "x", " 1", "1.5", "-1", "UNLIMITED", "1\n"])
def test_other_times_are_refused(time: str) -> None:
    assert refused(RemoveJob, targetPath="/t", time=time) == {"error": "Not supported time format"}


def test_a_system_that_is_to_run_the_jobs_of_another_must_be_there() -> None:
    systems = [{"name": "a", "host": "h", "host_keys": ["k"], "transfer_system": "b"}]
    rest = {"issuers": [{"jwks_url": "https://u"}], "broker": {"url": "redis://u"}, "keys": {"private": "p", "public": "p"}}

    with pytest.raises(ValidationError, match="there is no system b, which is to run the transfer jobs of a"):
        Settings.model_validate({"systems": systems, **rest})
    systems.append({"name": "b", "host": "h", "host_keys": ["k"]})
    assert Settings.model_validate({"systems": systems, **rest}).system("a")
