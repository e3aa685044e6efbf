"""What a job may ask for: what is taken, and how the rest is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.requests import refusal
from schemas.compute import JobRequest, SubmitPath, SubmitUpload
from schemas.fields import Upload
from workers.schedulers import slurm
from workers.schedulers.scheduler import Submission

TAKEN = {
    "jobName": ["job", "my job", "ünï", "a.:.b", "-x"],
    "partition": ["normal", "normal,debug"],
    "time": ["1", "090", "10:30", "100:59", "25:00:00", "1-0", "1-23", "1-23:59", "10-00:00:01"],
    "nodes": ["1", "2-4"],
    "ntasks": ["1", "4096"],
    "cpusPerTask": ["8"],
    "memory": ["0", "4000", "4000M", "4g"],
    "gpus": ["1", "a100:2", "a100:1,v100:2"],
    "qos": ["normal"],
    "reservation": ["maintenance"],
    "constraint": ["gpu", "gpu&fast", "(a|b)&c", "[rack1*2&rack2*4]"],
    "dependency": ["afterok:12", "afterok:12:13,afterany:14_3", "singleton", "after:12+5?afternotok:13_*"],
    "array": ["0", "1-3", "0-15%4", "1,3,5-7", "1-40:3"],
    "begin": ["16:00", "now+1hour", "2026-11-22T10:00", "12/31/26-10:00", "tomorrow", "now + 60"],
    "output": ["/scratch/%x-%j.out", "a b.txt"],
    "error": ["err"],
}
REFUSED = {
    "jobName": ["a|b", "a\nb", "a'b", "a;b"],
    "partition": ["a b;c", "$(id)"],
    "time": ["0", "00:00", "x", "1:60", "1-24", "1-1:1:1:1", "-1", "1:2:3:4", "1.5", " 1", "1\n", "UNLIMITED"],
    "nodes": ["0", "x", "1-", "1,2", "-1", "1\n"],
    "ntasks": ["0", "x", "1.5", "-1", "1e3"],
    "cpusPerTask": ["0", "٣"],
    "memory": ["x", "1P", "-1", "1 G", "1.5G"],
    "gpus": ["x", "a:b", "1;2", "a100:"],
    "qos": ["a&b"],
    "reservation": ["a`b"],
    "constraint": ["a b", "a;b", "a`b", "$x", "a'b", "a\n", '"', "a>b", "x" * 1001],
    "dependency": ["12", "afterok:", "afterok:x", "afterok:1;id", "afterok:1 ", "AFTEROK:1"],
    "array": ["x", "1-", "1;2", "%4", "1-3%", "1-3\n"],
    "begin": ["now;id", "$(id)", "'", "now\n"],
    "output": ["a\nb", "a>b"],
    "error": ["`id`"],
}


def form(name: str, value: Any) -> dict[str, Any]:
    return {"targetPath": "/s", name: value}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TAKEN.items() for value in values])
def test_what_a_job_may_ask_for_reaches_sbatch_as_one_word(name: str, value: str) -> None:
    op = SubmitPath.model_validate(form(name, value))

    words = slurm.submit(Submission("/r", "/f", "s.sh", None, op, ())).argv

    option = {"jobName": "job-name", "cpusPerTask": "cpus-per-task", "memory": "mem"}.get(name, name)
    sbatch = words[words.index("sbatch") :]
    assert sbatch == ("sbatch", f"--{option}={value}", "--chdir=/f", "--", "s.sh")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_what_no_job_can_ask_for_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        SubmitPath.model_validate(form(name, value))

    said = refusal(SubmitPath, wrong.value)
    assert (said.status, said.description) == (400, f"Invalid {name}")
    assert said.text == "Not supported time format" or str(said.text).startswith(f"'{name}' ")


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_empty_is_not_asked_for(name: str) -> None:
    op = SubmitPath.model_validate(form(name, ""))

    assert op == SubmitPath(target_path="/s")
    assert "--chdir=/f" in slurm.submit(Submission("/r", "/f", "s.sh", None, op, ())).argv


def test_every_field_is_tested() -> None:
    fields = {field.alias for name, field in JobRequest.model_fields.items() if name not in ("env", "account")}

    assert fields == set(TAKEN) == set(REFUSED)


def test_things_are_checked_in_the_contract_s_order() -> None:
    bad = {"targetPath": "a;b", "account": "a;b", "time": "x", "env": "{", "file": Upload(name="", key="", size=0, sha256="")}

    def refused(operation: type[JobRequest], *left_out: str) -> str:
        with pytest.raises(ValidationError) as wrong:
            operation.model_validate({name: value for name, value in bad.items() if name not in left_out})
        return str(refusal(operation, wrong.value).text)

    assert refused(SubmitPath) == "'targetPath' has invalid char"
    bad["targetPath"] = "/s"
    assert [refused(SubmitPath), refused(SubmitPath, "account"), refused(SubmitPath, "account", "time")] == [
        "'account' has invalid char",
        "Not supported time format",
        "Invalid JSON environment provided",
    ]
    assert [refused(SubmitUpload), refused(SubmitUpload, "account"), refused(SubmitUpload, "account", "file")] == [
        "'account' has invalid char",
        "No batch file selected",
        "No batch file part",
    ]
