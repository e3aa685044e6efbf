"""An Open Policy Agent is asked about calls, and without its leave nothing is done."""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import ValidationError
from redis import Redis

from api.app import create_app
from broker.gateway import Gateway
from broker.health import Health
from broker.limits import Limiter
from schemas.settings import Permission, Settings
from tests.served.conftest import NamedCallers
from tests.served.policy_agent import OPA, Agent

V1_POLICY = """
package f7t.authz
import rego.v1
default allow := false
allow if input.user in data.systems[input.system].users
"""


@pytest.fixture
def agent() -> Iterator[Agent]:
    """The agent, with the shipped policy and its data, for the system of these tests."""
    data = json.loads((OPA / "data.json").read_text(encoding="utf-8"))
    with Agent({"systems": {"here": data["systems"]["cluster"]}}) as running:
        yield running


@pytest.fixture
def ask(settings: Settings, gateway: Gateway, redis: Redis, worker: None, agent: Agent) -> Callable[..., Any]:
    """Makes clients of an API that asks the agent."""

    def make(user: str = "fcalice", **others: Any) -> FlaskClient:
        source = Permission.model_validate({"source": "opa", "url": agent.url, "cache_seconds": 0} | others)
        client = create_app(
            settings.model_copy(update={"permission": source}), gateway, NamedCallers(), Health(redis), Limiter(redis, settings.limits)
        ).test_client()
        client.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {user}", "HTTP_X_MACHINE_NAME": "here"}
        return client

    return make


def test_the_shipped_policy_lets_users_do_all_and_readers_look(ask, tmp_path: Path) -> None:
    ls, mkdir = {"targetPath": str(tmp_path)}, {"targetPath": str(tmp_path / "made")}
    assert ask("fcalice").get("/utilities/ls", query_string=ls).status_code == 200
    assert ask("fccarol").get("/utilities/ls", query_string=ls).status_code == 200
    assert ask("fccarol").post("/utilities/mkdir", data=mkdir).status_code == 400
    assert not (tmp_path / "made").exists()
    assert ask("fcalice").post("/utilities/mkdir", data=mkdir).status_code == 201
    assert ask("fcmallory").get("/utilities/ls", query_string=ls).status_code == 400
    assert ask("fcalice").put("/utilities/chown", data={"targetPath": str(tmp_path), "group": "root"}).status_code == 400
    assert ask("fcalice").post("/utilities/mkdir", data={"targetPath": f"{tmp_path}/.bashrc"}).status_code == 400


def test_the_agent_is_told_who_wants_what_where_and_no_secret(ask, agent: Agent, tmp_path: Path) -> None:
    ask().get("/utilities/ls", query_string={"targetPath": str(tmp_path), "showhidden": "yes"})
    ask().post("/utilities/upload", data={"targetPath": str(tmp_path), "file": (io.BytesIO(b"x"), "name")})
    ask("nobody").post("/compute/jobs/path", data={"targetPath": "/job.sh", "env": '{"PASSWORD": "secret"}', "jobName": "a"})
    ls, upload, submit = agent.asked
    assert (ls["user"], ls["system"], ls["operation"], ls["rights"]) == ("fcalice", "here", "utilities.Ls", ["read"])
    assert ls["parameters"]["targetPath"] == str(tmp_path)
    assert ls["parameters"]["showhidden"] is True
    assert upload["parameters"]["file"].keys() == {"name", "size", "sha256"}
    assert submit["parameters"]["jobName"] == "a"
    assert "secret" not in json.dumps(agent.asked)
    assert "a token" not in json.dumps(agent.asked)


@pytest.mark.parametrize(
    ("verb", "path", "values", "status", "says", "body"),
    [
        (
            "GET", "/utilities/ls", {"targetPath": "/"}, 400, "User does not have permissions to access path",
            {"description": "Error on ls operation", "error": "Permission denied for user nobody in here"},
        ),
        (
            "GET", "/compute/jobs", {}, 404, "User does not have permissions to access machine or path",
            {"description": "Failed to retrieve jobs information", "error": "Permission denied for user nobody in here"},
        ),
        (
            "POST", "/storage/xfer-internal/rm", {"targetPath": "/x"}, 404, "User does not have permissions to access machine or path",
            {"description": "Error on rm operation", "error": "Permission denied for user nobody in here"},
        ),
        (
            "GET", "/reservations", {}, 404, "User does not have permissions to access machine or path",
            {"error": "Error listing reservations"},
        ),
    ],
)  # fmt: skip
def test_what_the_agent_denies_is_told_as_the_contract_has_it(ask, verb: str, path: str, values, status: int, says: str, body) -> None:
    answer = ask("nobody").open(path, method=verb, **{"query_string" if verb == "GET" else "data": values})
    assert (answer.status_code, answer.headers["X-Permission-Denied"], answer.json) == (status, says, body)


def test_policies_of_firecrest_v1_go_on_working(ask, tmp_path: Path) -> None:
    with Agent({"systems": {"here": {"users": ["old"]}}}, V1_POLICY) as old:
        for path in ("v1/data/f7t/authz", "/v1/data/f7t/authz/allow"):
            for user, status in (("old", 200), ("fcalice", 400)):
                client = ask(user, url=old.url, path=path)
                assert client.get("/utilities/ls", query_string={"targetPath": str(tmp_path)}).status_code == status
                assert client.get("/tasks").status_code == 200
        assert ask("old", url=old.url, path="v1/data/elsewhere").get("/utilities/whoami").status_code == 400


def test_calls_without_a_system_are_asked_about_where_that_is_wanted(ask, agent: Agent) -> None:
    assert ask("nobody").get("/tasks").status_code == 200
    assert agent.asked == []
    answer = ask("nobody", local=True).get("/tasks")
    assert (answer.status_code, answer.json["error"]) == (403, "Permission denied for user nobody")
    assert "system" not in agent.asked[0]


SICK = [
    (200, b""),
    (200, b"<html>"),
    (200, b"[]"),
    (200, b'{"result": "yes"}'),
    (200, b'{"result": {"allow": "true"}}'),
    (200, b'{"result": {"allow": 1}}'),
    (200, b'{"result": [true]}'),
    (200, b'{"result": ' + b"[" * 20000 + b"]" * 20000 + b"}"),
    (200, b'{"result": true}' + b" " * 70000),
    (201, b'{"result": {"allow": true}}'),
    (302, b'{"result": {"allow": true}}'),
    (404, b"{}"),
    (500, b'{"result": {"allow": true}}'),
]


@pytest.mark.parametrize(("status", "content"), SICK)
def test_an_agent_that_makes_no_sense_stops_the_call(ask, agent: Agent, tmp_path: Path, status: int, content: bytes) -> None:
    agent.answer = (status, content)
    answer = ask().post("/utilities/mkdir", data={"targetPath": str(tmp_path / "made")})
    assert (answer.status_code, answer.json["error"]) == (503, "The permission service cannot be asked")
    assert answer.headers["Retry-After"]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content", [b"{}", b'{"result": {}}', b'{"result": {"allow": false}}', b'{"result": false}', b'{"result": {"x": true}}']
)
def test_what_is_not_defined_is_not_allowed(ask, agent: Agent, content: bytes) -> None:
    agent.answer = (200, content)
    assert ask().get("/utilities/whoami").headers["X-Permission-Denied"]


def test_an_agent_that_is_slow_or_gone_stops_the_call(ask, agent: Agent) -> None:
    agent.pause = 60
    began = time.monotonic()
    assert ask(seconds=0.3).get("/utilities/whoami").status_code == 503
    assert time.monotonic() - began < 30
    assert ask(url="http://127.0.0.1:9").get("/utilities/whoami").status_code == 503


def test_answers_hold_for_a_while_and_failures_do_not(ask, agent: Agent) -> None:
    client = ask(cache_seconds=60)
    for user in ("fcalice", "fcalice", "nobody", "nobody"):
        client.get("/utilities/whoami", headers={"Authorization": f"Bearer {user}"})
    client.get("/utilities/whoami", query_string={"groups": "true"})
    assert [asked["user"] for asked in agent.asked] == ["fcalice", "nobody", "fcalice"]
    agent.answer = (500, b"")
    assert client.get("/utilities/ls", query_string={"targetPath": "/"}).status_code == 503
    agent.answer = None
    assert client.get("/utilities/ls", query_string={"targetPath": "/"}).status_code == 200
    brief = ask(cache_seconds=0.05)
    for _ in range(2):
        brief.get("/utilities/whoami")
        time.sleep(0.1)
    assert len(agent.asked) == 7


def test_connections_to_the_agent_are_kept(ask, agent: Agent) -> None:
    client = ask()
    for _ in range(5):
        assert client.get("/utilities/whoami").status_code == 200
    assert (len(agent.asked), len(agent.clients)) == (5, 1)


@pytest.mark.parametrize("url", ["", "http://opa.example:8181", "ftp://localhost/", "opa"])
def test_an_agent_that_anybody_could_play_is_not_believed(url: str) -> None:
    with pytest.raises(ValidationError, match="could change the answers"):
        Permission.model_validate({"source": "opa", "url": url})
    assert Permission.model_validate({"source": "opa", "url": "http://opa.example:8181", "insecure": True})
