"""What the service is made of: every package locked by its hash, told in a bill of materials, and audited where that is possible."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource

from deploy.bom import bill
from tests.conftest import ROOT

SCHEMAS = Path(__file__).parent / "recorded"  # the CycloneDX project's own (Apache-2.0)
LOCKS = ("requirements.lock", "requirements-dev.lock", ".ci/audit.lock")


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """What `./run sbom` prints."""
    return json.loads(subprocess.run(["./run", "sbom"], cwd=ROOT, capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    schemas = {path.name: json.loads(path.read_text()) for path in sorted(SCHEMAS.glob("*.schema.json"))}
    base = "http://cyclonedx.org/schema/"
    registry = Registry().with_resources(
        (place, Resource.from_contents(schema)) for name, schema in schemas.items() for place in (name, base + name)
    )
    return Draft7Validator(schemas["bom-1.6.SNAPSHOT.schema.json"], registry=registry)


def test_the_bill_is_valid_cyclonedx(printed: dict[str, Any], validator: Draft7Validator) -> None:
    validator.validate(printed)
    refs = [component["bom-ref"] for component in printed["components"]]
    assert len(refs) == len(set(refs))
    for broken in ({"type": "no such"}, {"scope": "perhaps"}, {"hashes": [{"alg": "SHA-512", "content": "zz"}]}):
        with pytest.raises(ValidationError):
            validator.validate(printed | {"components": [printed["components"][0] | broken]})


def test_the_bill_names_every_locked_package(printed: dict[str, Any]) -> None:
    purls = {component["purl"]: component for component in printed["components"]}
    locked = re.findall(r"^([a-zA-Z0-9._-]+)(?:\[.*\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert len(locked) > 40
    for name, version in locked:
        assert purls[f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}"]["scope"] == "required"
    packages = json.loads((ROOT / "site" / "oidc" / "package-lock.json").read_text())["packages"]
    assert {purl for purl in purls if purl.startswith("pkg:npm/oidc-provider@")}
    assert sum(purl.startswith("pkg:npm/") for purl in purls) >= len({path.rpartition("node_modules/")[2] for path in packages if path})
    assert purls["pkg:deb/debian/redis-server?distro=debian-12"]["properties"] == [{"name": "firecrest:used", "value": "redis servers"}]
    assert purls["pkg:docker/debian@12-slim"]["type"] == "container"


def test_the_bill_is_the_same_whenever_it_is_made(printed: dict[str, Any]) -> None:
    assert printed == bill()
    assert not {"serialNumber", "timestamp"} & (printed.keys() | printed["metadata"].keys())


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert packages
    assert [entry for entry in packages if not re.match(r"\S+==[^\n]+ \\\n    --hash=sha256:", entry)] == []


def test_every_node_package_has_its_hash() -> None:
    packages = json.loads((ROOT / "site" / "oidc" / "package-lock.json").read_text())["packages"]
    assert [path for path, facts in packages.items() if path and not facts["integrity"].startswith("sha512-")] == []


def test_images_are_built_from_locks_and_run_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text()
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)
    assert re.search(r"^RUN .*npm install", text, re.MULTILINE) is None
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    ends = {stage.split()[2]: re.findall(r"^USER (\S+)", stage, re.MULTILINE) for stage in stages[1:]}
    assert {name: users[-1] for name, users in ends.items() if name in ("gateway", "redis", "servers")} == dict.fromkeys(
        ("gateway", "redis", "servers"), "10001:10001"
    )


KNOWN = {"dependencies": [{"name": "jinja2", "version": "3.1.6", "vulns": []}]}
FLAWED = {"dependencies": [{"name": "jinja2", "version": "2.10", "vulns": [{"id": "PYSEC-2019-217"}]}]}
SKIPPED = {"dependencies": [{"name": "jinja2", "skip_reason": "Dependency not found"}]}
NODE = {"vulnerabilities": {"koa": {"severity": "high"}}}


@pytest.mark.parametrize(
    ("kind", "said", "errors", "code", "words"),
    [
        ("python", KNOWN, "", 0, "0 findings, 0 not audited"),
        ("python", FLAWED, "", 1, "FOUND requirements.lock: jinja2 2.10: PYSEC-2019-217"),
        ("python", SKIPPED, "No known vulnerabilities found", 0, "NOT AUDITED: 1"),
        ("python", None, "requests.exceptions.ConnectionError", 0, "NOT AUDITED: 1"),
        ("python", None, "Traceback: KeyError", 1, "the audit itself failed"),
        ("node", {"vulnerabilities": {}}, "", 0, "0 findings, 0 not audited"),
        ("node", NODE, "", 1, "koa: high"),
        ("node", {"message": "405 Method Not Allowed"}, "npm error audit endpoint returned an error", 0, "NOT AUDITED: 1"),
        ("node", {"error": {"code": "ELOCKVERBOSE"}}, "", 1, "the audit itself failed"),
    ],
)
def test_an_audit_fails_on_a_finding_and_says_what_it_could_not_look_up(
    tmp_path: Path, kind: str, said: Any, errors: str, code: int, words: str
) -> None:
    """The tools are stood in for by programs that say what they were seen to say."""
    text = "" if said is None else json.dumps(said)
    tool = tmp_path / {"python": "pip-audit", "node": "npm"}[kind]
    tool.write_text(f"#!{sys.executable}\nimport sys\nprint({text!r})\nsys.stderr.write({errors!r})\nsys.exit(1)\n")
    tool.chmod(0o755)
    what = {"python": "requirements.lock", "node": "site/oidc"}[kind]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([ROOT / ".ci" / "audit", kind, what], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (code, "")
    assert words in done.stdout
