"""Security headers on every answer, whatever it is, and CORS for those origins alone that the settings name."""

from collections.abc import Callable
from http import HTTPStatus

import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.datastructures import Headers

from api.app import create_app
from api.protection import ALWAYS, refusal
from broker.gateway import Caller, Gateway
from broker.health import Health
from broker.limits import Limiter
from schemas.settings import Api, Settings
from tests.served.conftest import NamedCallers

Make = Callable[..., FlaskClient]
USER_DATA = ("/utilities/whoami", "/tasks", "/status/systems", "/nowhere", "/utilities/ls", "/tasks/x")


@pytest.fixture
def make(settings: Settings, gateway: Gateway, redis: Redis, worker: None) -> Make:
    """Makes the API with other settings of its section."""

    def api(identity: object = None, **changed: object) -> FlaskClient:
        whole = settings.model_copy(update={"api": Api(**changed)})
        client = create_app(whole, gateway, identity or NamedCallers(), Health(redis), Limiter(redis, settings.limits)).test_client()
        client.environ_base |= {"HTTP_AUTHORIZATION": "Bearer somebody", "HTTP_X_MACHINE_NAME": "here"}
        return client

    return api


class Broken:
    """An identity that has a fault."""

    def caller(self, _: Headers) -> Caller:
        raise RuntimeError("a fault")


@pytest.mark.parametrize("path", USER_DATA)
def test_every_answer_to_a_user_has_them_all(make: Make, path: str) -> None:
    answer = make().get(path)
    assert {name: answer.headers.get(name) for name in ALWAYS} == dict(ALWAYS)
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize(("verb", "status"), [("PATCH", 405), ("OPTIONS", 200), ("HEAD", 200)])
def test_so_has_every_answer_to_other_verbs(make: Make, verb: str, status: int) -> None:
    answer = make().open("/utilities/whoami", method=verb)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in ALWAYS} == dict(ALWAYS)


def test_so_has_a_refusal_and_a_fault(make: Make) -> None:
    anonymous = make()
    del anonymous.environ_base["HTTP_AUTHORIZATION"]
    for answer, status in ((anonymous.get("/tasks"), 401), (make(Broken()).get("/tasks"), 500)):
        assert answer.status_code == status
        assert {name: answer.headers.get(name) for name in ALWAYS} == dict(ALWAYS)


def test_so_has_what_is_said_to_those_who_speak_no_http() -> None:
    told = refusal(HTTPStatus.BAD_REQUEST).decode()
    assert all(f"\r\n{name}: {value}\r\n" in told for name, value in ALWAYS.items())


def test_documents_may_be_kept_but_are_asked_for_anew(make: Make) -> None:
    api = make()
    for path in ("/", "/swagger.json", "/openapi.json", "/swaggerui/swagger-ui.css"):
        with api.get(path) as answer:
            assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache"), path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_swagger_ui_may_run_its_own_scripts_and_no_others(make: Make) -> None:
    policy = make().get("/").headers["Content-Security-Policy"]
    (scripts,) = (part for part in policy.split("; ") if part.startswith("script-src"))
    assert scripts.startswith("script-src 'self' 'sha256-")
    assert "unsafe" not in scripts
    assert "frame-ancestors 'none'" in policy


def test_browsers_are_told_to_insist_on_tls_where_there_is_tls(make: Make) -> None:
    assert make().get("/tasks", base_url="https://gateway").headers["Strict-Transport-Security"].startswith("max-age=")


@pytest.mark.parametrize(("proxies", "believed"), [(0, False), (1, True)])
def test_only_a_trusted_proxy_is_believed_that_there_is_tls(make: Make, proxies: int, believed: bool) -> None:
    answer = make(proxies=proxies).get("/tasks", headers={"X-Forwarded-Proto": "https"})
    assert ("Strict-Transport-Security" in answer.headers) == believed


def preflight(api: FlaskClient, origin: str) -> Headers:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-Machine-Name"}
    return api.options("/compute/jobs", headers=asked).headers


def test_no_other_origin_may_ask_by_default(make: Make) -> None:
    api = make()
    shared = [*preflight(api, "https://portal"), *api.get("/tasks", headers={"Origin": "https://portal"}).headers]
    assert not [name for name, _ in shared if name.startswith("Access-Control")]


def test_an_origin_that_is_named_may_ask_and_no_other(make: Make) -> None:
    api = make(origins=["https://portal"])
    told = preflight(api, "https://portal")
    assert told["Access-Control-Allow-Origin"] == "https://portal"
    assert told["Access-Control-Allow-Methods"] == "GET, POST, PUT, DELETE"
    assert told["Access-Control-Allow-Headers"] == "Accept, X-Machine-Name, X-Task-Id, Authorization, Content-Type, Prefer"
    assert told["Access-Control-Max-Age"] == "3600"
    assert api.get("/tasks", headers={"Origin": "https://portal"}).headers["Access-Control-Allow-Origin"] == "https://portal"
    assert "Access-Control-Allow-Origin" not in preflight(api, "https://portal.evil")
    assert "Access-Control-Allow-Origin" not in api.get("/tasks").headers


def test_every_origin_may_ask_where_the_settings_say_so(make: Make) -> None:
    answer = make(origins=["*"]).get("/nowhere", headers={"Origin": "https://anybody"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
