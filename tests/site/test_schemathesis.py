"""The published OpenAPI document against the running service: schemathesis makes calls of every operation and judges the answers."""

import json
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import api.app  # noqa: F401 (all operations)
from api.documents import fields, openapi
from api.local import VERSION
from api.resources import paths
from schemas.operation import OPERATIONS, Operation
from tests.real_site import Client, Site
from tests.site.hostile_cases import Scenery, scenery

EXAMPLES = 20
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]

# The same calls in every run, so that a gate does not pass by luck.
_CALLS = GenerationConfig(deterministic=True, max_examples=EXAMPLES, database="none", with_security_parameters=False)
_CONFIG = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=ProjectConfig(generation=_CALLS)))
DOCUMENT = openapi(OPERATIONS, version=VERSION)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=_CONFIG)


@pytest.fixture(scope="module")
def stage(site: Site, mallory: Client) -> Iterator[Scenery]:
    """What is in order, in mallory's home."""
    with scenery(site, mallory) as made:
        yield made


def test_the_document_is_the_published_one(site: Site) -> None:
    assert requests.get(f"{site.url}/openapi.json", timeout=30).json() == json.loads(json.dumps(DOCUMENT))


@SCHEMA.parametrize()
def test_the_service_keeps_to_its_document(case: Case, site: Site, mallory: Client, stage: Scenery) -> None:
    """As the call was made up, and again with what is there in its required fields: else it would hardly ever go well."""
    headers = {"Authorization": mallory.authorization()}
    case.call_and_validate(base_url=site.url, headers=headers, checks=CHECKS, timeout=60)
    for operation in OPERATIONS:
        if operation.route.verb == case.method and case.path in paths(operation):
            fill(case, operation, stage)
            case.call_and_validate(
                base_url=site.url, headers={**headers, "X-Machine-Name": site.facts["system"]}, checks=CHECKS, timeout=60
            )


def fill(case: Case, operation: type[Operation], stage: Scenery) -> None:
    """Name in a call what is there."""
    places = {"path": case.path_parameters, "query": case.query, "formData": case.body, "header": case.headers}
    for field in fields(operation):
        if field.required and "$ref" not in field.schema and isinstance(places[field.place], dict):
            places[field.place][field.name] = stage.value(operation, field).decode()
