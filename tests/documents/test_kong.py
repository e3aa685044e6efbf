"""deploy/kong.yml: its shape, and that it lets through just what the API declares; there is no Kong here to start it."""

import re
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

import api.app  # noqa: F401 (all operations)
from api.announcements import PATH
from api.protection import _CORS_SECONDS, _HEADERS, _METHODS
from schemas.operation import OPERATIONS
from schemas.settings import Limits
from tests.documents.sections import ROOT

TEXT = (ROOT / "deploy" / "kong.yml").read_text(encoding="utf-8")
KONG: dict[str, Any] = yaml.safe_load(TEXT)
ROUTES = [(service["name"], route) for service in KONG["services"] for route in service["routes"]]
PLUGINS = {plugin["name"]: plugin["config"] for plugin in KONG["plugins"]}
# entity: what Kong 3 knows of it, as far as it is used here
KNOWN = {
    "services": {"name", "url", "routes", "plugins"},
    "routes": {"name", "paths", "methods", "strip_path", "preserve_host"},
    "consumers": {"username", "jwt_secrets"},
    "jwt_secrets": {"key", "algorithm", "rsa_public_key"},
    "plugins": {"name", "config"},
}


def routed(verb: str, path: str) -> list[str]:
    """The services of the routes that let a request through, as Kong's router reads paths: a pattern behind "~", from the beginning."""
    return [
        name
        for name, route in ROUTES
        if verb in route["methods"] and any(re.match(pattern.removeprefix("~"), path) for pattern in route["paths"])
    ]


def declared() -> list[tuple[str, str, str]]:
    """Service, verb and path, with something in the place of names, of every operation."""
    return [
        (op.route.path.split("/")[1], op.route.verb, re.sub(r"\{\w+\}", "one", path))
        for op in OPERATIONS
        for path in (op.route.path, op.route.also)
        if path
    ]


def entities(node: Any, kind: str = "") -> list[tuple[str, dict[str, Any]]]:
    """All entities, each with its kind."""
    found = []
    for name, value in node.items():
        for one in value if isinstance(value, list) and name in KNOWN else ():
            found += [(name, one), *entities(one, name)]
    return found


def test_it_is_of_the_format_of_kong_3() -> None:
    assert (KONG["_format_version"], KONG["_transform"]) == ("3.0", True)
    assert set(KONG) == {"_format_version", "_transform", "services", "consumers", "plugins"}
    assert [(kind, set(one) - KNOWN[kind]) for kind, one in entities(KONG) if set(one) - KNOWN[kind]] == []
    named = [(kind, one["name"]) for kind, one in entities(KONG) if kind in ("services", "routes")]
    assert len(set(named)) == len(named)


def test_every_path_is_a_pattern_that_ends() -> None:
    paths = [path for _, route in ROUTES for path in route["paths"]]
    assert [path for path in paths if not (path.startswith("~/") and path.endswith("$"))] == []
    assert all(re.compile(path[1:]) for path in paths)


@pytest.mark.parametrize(("service", "verb", "path"), declared())
def test_every_operation_is_let_through_to_its_service(service: str, verb: str, path: str) -> None:
    assert routed(verb, path) == [service]


def test_no_service_is_let_through_by_a_verb_that_it_does_not_know() -> None:
    for name, route in ROUTES:
        if name != "documents":
            assert set(route["methods"]) == {verb for service, verb, _ in declared() if service == name}, name
    assert {name for name, _ in ROUTES} == {service for service, _, _ in declared()} | {"documents"}


@pytest.mark.parametrize("path", [PATH, "/", "/utilities/ls/more", "/tasks/x/y", "/metrics", "/storage"])
def test_nothing_else_can_be_posted(path: str) -> None:
    assert routed("POST", path) == []


def test_all_but_the_documents_ask_for_a_token_that_has_not_expired() -> None:
    for service in KONG["services"]:
        plugins = {plugin["name"]: plugin["config"] for plugin in service.get("plugins", [])}
        if service["name"] == "documents":
            assert plugins == {}
        else:
            assert plugins["jwt"]["claims_to_verify"] == ["exp"]
            assert plugins["jwt"]["key_claim_name"] == "iss"
            assert plugins["jwt"]["uri_param_names"] == plugins["jwt"]["cookie_names"] == []


def test_the_example_key_is_a_public_key() -> None:
    (secret,) = KONG["consumers"][0]["jwt_secrets"]
    assert isinstance(load_pem_public_key(secret["rsa_public_key"].encode()), RSAPublicKey)
    assert "PRIVATE" not in TEXT


def test_cors_is_that_of_the_contract_and_of_the_api_itself() -> None:
    cors = PLUGINS["cors"]
    assert (", ".join(cors["methods"]), ", ".join(cors["headers"]), str(cors["max_age"])) == (_METHODS, _HEADERS, _CORS_SECONDS)


def test_requests_may_be_as_large_as_the_api_takes() -> None:
    assert PLUGINS["request-size-limiting"]["allowed_payload_size"] > Limits().utilities_max_file_size
    assert {"rate-limiting", "prometheus", "file-log"} <= set(PLUGINS)
