"""Puts the README's worked example behind the modules it extends, and calls it over HTTP; run in a process of its own."""

import sys
from typing import Any

from redis import Redis

import workers.utilities
from api.app import create_app
from broker.blobs import Blobs
from broker.gateway import Caller
from schemas.operation import Operation
from schemas.rights import EVERY_RIGHT
from schemas.settings import Issuer, Limits, Settings, System
from workers.host import LocalHost
from workers.performing import PERFORMERS, Scene

SYSTEM = System(name="here", host="localhost", host_keys=("ssh-ed25519 AAAA",))


class Performed:
    """A gateway that performs at once, on this machine."""

    tasks = subscription = None

    def call(self, op: Operation, caller: Caller, _: str, *, task_id: str) -> bytes:
        scene = Scene(task_id, caller.user, SYSTEM, Limits(), Blobs(Redis()))
        found = PERFORMERS[type(op)](type(op).model_validate(op.parameters()), LocalHost(), scene)
        return bytes(type(found).model_dump_json(found), "utf-8")


class Known:
    """Everybody is alice."""

    def caller(self, _: object) -> Caller:
        return Caller("alice", "token", EVERY_RIGHT)


def extend(module: Any, text: str) -> None:
    exec(compile(text, module.__file__, "exec"), vars(module))


declaration, performance, path = sys.argv[1:]
import schemas.utilities  # noqa: E402 - the module to extend, by its name

extend(schemas.utilities, declaration)
extend(workers.utilities, performance)
settings = Settings.model_validate(
    {
        "systems": [SYSTEM],
        "issuers": [Issuer(jwks_url="http://localhost/keys")],
        "broker": {"url": "redis://localhost"},
        "keys": {"private": "/", "public": "/"},
        "limits": {"calls_per_second": 0, "calls_at_once": 0},
    }
)
app = create_app(settings, Performed(), Known(), None, None)  # type: ignore[arg-type]
client = app.test_client()
answer = client.get("/utilities/wc", query_string={"targetPath": path}, headers={"X-Machine-Name": "here"})
missing = client.get("/utilities/wc", query_string={"targetPath": f"{path}.not"}, headers={"X-Machine-Name": "here"})
documented = client.get("/openapi.json").json["paths"]["/utilities/wc"]["get"]
found = [
    answer.status_code,
    answer.json,
    missing.status_code,
    missing.headers["X-Invalid-Path"],
    documented["operationId"],
    documented["summary"],
]
sys.stdout.write(repr(found))
