"""The software bill of materials: `python3 -m deploy.bom` prints what the lock files and the Dockerfile name, as CycloneDX 1.6 in JSON.

It is made from files of the repository alone, without times and random ids, so that whoever makes it again gets the same bytes.
"""

import base64
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s\\;]+)")
_INSTALLED = re.compile(r"apt-get install --yes --no-install-recommends \\?\n?(.*?)(?:&&|$)", re.DOTALL)
_STAGE = re.compile(r"^FROM (\S+) AS (\S+)$", re.MULTILINE)

Component = dict[str, Any]


def bill(root: Path = ROOT) -> dict[str, Any]:
    """The whole bill of the repository in that folder."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    components = [*_python(root), *_node(root), *_debian(root)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "firecrest",
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
            },
        },
        "components": sorted(components, key=lambda component: component["bom-ref"]),
        "dependencies": [{"ref": "firecrest", "dependsOn": sorted(component["bom-ref"] for component in components)}],
    }


def _python(root: Path) -> Iterator[Component]:
    """What requirements.lock installs with the gateway is required; the rest of requirements-dev.lock is for site and tests."""
    needed = set(_pinned(root / "requirements.lock"))
    for name, version in sorted(needed | set(_pinned(root / "requirements-dev.lock"))):
        purl = f"pkg:pypi/{name}@{quote(version)}"
        yield _component(name, purl, version=version, scope="required" if (name, version) in needed else "excluded", used="locked")


def _pinned(lock: Path) -> Iterator[tuple[str, str]]:
    for line in lock.read_text().splitlines():
        if found := _LOCKED.match(line):
            yield re.sub(r"[-_.]+", "-", found[1]).lower(), found[2]


def _node(root: Path) -> Iterator[Component]:
    """The packages of the demo's issuer."""
    packages = json.loads((root / "site" / "oidc" / "package-lock.json").read_text())["packages"]
    wanted = {(path.rpartition("node_modules/")[2], facts["version"], facts["integrity"]) for path, facts in packages.items() if path}
    for name, version, integrity in sorted(wanted):
        kind, _, digest = integrity.partition("-")
        found = _component(name, f"pkg:npm/{quote(name)}@{quote(version)}", version=version, scope="excluded", used="issuer of the demo")
        yield found | {"hashes": [{"alg": kind.upper().replace("SHA", "SHA-"), "content": base64.b64decode(digest).hex()}]}


def _debian(root: Path) -> Iterator[Component]:
    """The packages that the Dockerfile asks Debian for, whose versions are those of the day when an image is built."""
    images: dict[str, set[str]] = {}
    stages = _STAGE.split((root / "Dockerfile").read_text())[1:]
    for base, stage, text in zip(stages[::3], stages[1::3], stages[2::3], strict=True):
        words = {word for found in _INSTALLED.findall(text) for word in found.split() if word != "\\"}
        images[stage] = words
        if base not in images:
            distribution = re.split("[:@]", base)[0]
            yield _component(
                base, f"pkg:docker/{distribution}@{quote(base.partition(':')[2])}", kind="container", scope="required", used="base"
            )
    for name in sorted(set().union(*images.values())):
        used = " ".join(sorted(stage for stage, words in images.items() if name in words))
        scope = "required" if {"base", "python", "redis"} & set(used.split()) else "excluded"
        yield _component(name, f"pkg:deb/debian/{quote(name)}?distro=debian-12", scope=scope, used=used)


def _component(name: str, purl: str, *, scope: str, used: str, version: str = "", kind: str = "library") -> Component:
    properties = [{"name": "firecrest:used", "value": used}]
    told = {"type": kind, "bom-ref": purl, "name": name, "scope": scope, "purl": purl, "properties": properties}
    return told | ({"version": version} if version else {})


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
