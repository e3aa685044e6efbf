"""No client of pyfirecrest sleeps though what it waits for is there: the queries of tasks that it makes are held."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from firecrest.v1 import AsyncFirecrest

from schemas.settings import Limits
from tests.contract.conftest import authorization
from tests.real_site import Site, eventually

Queries = Callable[[str], list[dict[str, Any]]]
HOLD = 1000 * Limits().hold_seconds
QUICK = "#!/bin/sh\n#SBATCH --job-name=quick\n#SBATCH --output=/dev/null\ntrue\n"
CALLS: dict[str, Callable[[Any, str], object]] = {
    "compute.SubmitUpload": lambda client, system: client.submit(system, script_str=QUICK),
    "compute.Jobs": lambda client, system: client.poll_active(system),
    "compute.Accounting": lambda client, system: client.poll(system),
    "compute.Nodes": lambda client, system: client.nodes(system),
}


@pytest.fixture
def queries(site: Site) -> Queries:
    """The trail's lines of alice's queries of tasks since the last call of an operation that gave her a task."""
    log = Path(site.facts["logs"], "api.log")

    def since(operation: str) -> list[dict[str, Any]]:
        lines = [json.loads(line[line.index("{") :]) for line in log.read_text().splitlines() if '"user": "fcalice"' in line]
        begun = max(at for at, line in enumerate(lines) if line["operation"] == operation)
        return [line for line in lines[begun:] if line["operation"] == "tasks.Tasks"]

    return lambda operation: eventually(lambda: since(operation))


@pytest.mark.parametrize("operation", CALLS)
def test_a_client_that_waits_for_a_task_asks_again_only_after_a_whole_hold(
    client: Any, system: str, queries: Queries, operation: str
) -> None:
    CALLS[operation](client, system)

    *before, last = queries(operation)
    assert all(query["held"] >= HOLD for query in before)
    assert last["status"] == 200


def test_twenty_tasks_are_waited_for_together_and_no_query_is_refused(site: Site, system: str, queries: Queries) -> None:
    async def wait() -> list[Any]:
        client = AsyncFirecrest(site.url, authorization(site, "alice"))
        client.set_api_version("1.16.1")
        client.time_between_calls = dict.fromkeys(client.time_between_calls, 0)
        found = await asyncio.gather(*(client.nodes(system, ["n1"]) for _ in range(20)))
        await client.close_session()
        return found

    assert [[node["NodeName"] for node in nodes] for nodes in asyncio.run(wait())] == [["n1"]] * 20
    assert {query["status"] for query in queries("compute.Nodes")} == {200}
