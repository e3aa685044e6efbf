"""What pyfirecrest's synchronous client, unchanged, costs beside the scheduler's own commands."""

import firecrest.v1

from bench.contest import Way, contest
from bench.jobs import JOBS, listed, running_jobs
from bench.series import CallFailedError
from bench.stage import CLIENT, Stage
from bench.submission import SCRIPT, folders_of_jobs, sbatch
from bench.tables import Part, failures, timings
from tests.real_site import Client

_SUBMIT, _SBATCH, _SBATCH_AGAIN = "pyfirecrest `submit()`", "`ssh … sbatch` over a ControlMaster", "the same again (A/A)"
_POLL, _SQUEUE, _SQUEUE_AGAIN = f"pyfirecrest `poll_active()` of {JOBS} jobs", "`ssh … squeue` over a ControlMaster", "the same again (A/A)"


class _Authorization:
    """What pyfirecrest asks for tokens."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get_access_token(self) -> str:
        """A token with some time left."""
        return self._client.authorization().removeprefix("Bearer ")


def client(stage: Stage, *, rounds: int, calls: int) -> Part:
    """The times of `submit()` and of `poll_active()`, each beside its floor, which runs twice."""
    ours = firecrest.v1.Firecrest(firecrest_url=stage.site.url, authorization=_Authorization(Client(stage.site, CLIENT)))
    with folders_of_jobs(stage) as folders:
        submitting: dict[str, Way] = {
            _SUBMIT: lambda: _submit(ours, stage, folders),
            _SBATCH: lambda: sbatch(stage),
            _SBATCH_AGAIN: lambda: sbatch(stage),
        }
        submitted = contest(submitting, rounds=rounds, calls=calls, warm_up=3)
    with running_jobs(stage.master):
        polling: dict[str, Way] = {
            _POLL: lambda: _poll(ours, stage),
            _SQUEUE: lambda: listed(stage.master),
            _SQUEUE_AGAIN: lambda: listed(stage.master),
        }
        polled = contest(polling, rounds=rounds, calls=calls, warm_up=3)
    text = f"{timings(submitted, floor=_SBATCH)}\n\n{timings(polled, floor=_SQUEUE)}"
    return Part("pyfirecrest", text, failures(*submitted.values(), *polled.values()))


def _submit(ours: firecrest.v1.Firecrest, stage: Stage, folders: list[str]) -> None:
    job = ours.submit(stage.system.name, script_str=SCRIPT.decode())
    folders.append(str(job["firecrest_taskid"]))


def _poll(ours: firecrest.v1.Firecrest, stage: Stage) -> None:
    found = [job for job in ours.poll_active(stage.system.name) if job["name"] == "bench-jobs"]
    if len(found) != JOBS:
        raise CallFailedError(f"poll_active() told of {len(found)} jobs")
