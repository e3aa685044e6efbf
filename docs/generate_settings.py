"""`python docs/generate_settings.py`: writes docs/settings.md from schemas/settings.py."""

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from schemas.settings import Section, Settings  # noqa: E402 - found only now

PAGE = ROOT / "docs" / "settings.md"
HEAD = """\
# Settings

<!-- Made by docs/generate_settings.py from schemas/settings.py. Do not edit. -->

One YAML file, named by `$FIRECREST_SETTINGS`, is read once by every process when it starts. What it does not know it refuses.
Every process may read the same file; `keys.private` is a folder that holds, on each host, only the keys of the process there:
`api.key` for the API, `worker.key` for workers, `delegation.key` and `ca.key` for the delegation.

```yaml
systems:
  - name: cluster
    host: login.example.org
    host_keys: ["ssh-ed25519 AAAA…"]
issuers:
  - issuer: https://id.example.org/realms/hpc
    jwks_url: https://id.example.org/realms/hpc/protocol/openid-connect/certs
    audience: firecrest
broker: {url: "rediss://:password@redis.example.org:6379/0"}
keys: {private: /etc/firecrest/keys, public: /etc/firecrest/public}
```
"""


def page() -> str:
    """The page's text."""
    return HEAD + "".join(_section("", Settings))


def _section(path: str, section: type[Section]) -> Iterator[str]:
    """The table of a section, then those of the sections below it."""
    rows = [_row(name, field) for name, field in section.model_fields.items()]
    title = f"## `{path}`\n\n{_summary(section)}" if path else "## The file\n"
    yield f"\n{title}\n| Field | Type | Default | Description |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    for name, field in section.model_fields.items():
        for inner in _sections(field.annotation):
            many = get_origin(field.annotation) is tuple
            yield from _section(f"{path}.{name}".strip(".") + ("[]" if many else ""), inner)


def _summary(section: type[Section]) -> str:
    return f"{(section.__doc__ or '').strip()}\n"


def _row(name: str, field: FieldInfo) -> str:
    below = list(_sections(field.annotation))
    description = field.description or (below[0].__doc__ if below else "") or ""
    return f"| `{name}` | {_kind(field.annotation)}{_bounds(field)} | {_default(field)} | {_escaped(description)} |"


def _escaped(text: str) -> str:
    return text.strip().replace("<", "&lt;").replace("|", "&#124;")


def _sections(kind: Any) -> Iterator[type[Section]]:
    for part in (kind, *get_args(kind)):
        if isinstance(part, type) and issubclass(part, Section):
            yield part


def _kind(kind: Any) -> str:
    origin, parts = get_origin(kind), [part for part in get_args(kind) if part not in (Ellipsis, NoneType)]
    if origin is Literal or (isinstance(kind, type) and issubclass(kind, StrEnum)):
        return "one of " + ", ".join(f"`{part}`" for part in parts or kind)
    if origin in (dict, tuple):
        return ("list of " if origin is tuple else "map to ") + _kind(parts[-1])
    if parts:
        return _kind(parts[0])
    if issubclass(kind, Section):
        return "section"
    return {str: "text", bool: "true or false", int: "whole number", float: "number", Path: "path"}[kind]


def _bounds(field: FieldInfo) -> str:
    words = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least"}
    found = [
        f"{sign} {getattr(item, name)}" for item in field.metadata for name, sign in words.items() if getattr(item, name, None) is not None
    ]
    return f", {', '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "absent"
    if isinstance(field.default, Section):
        return "its defaults"
    if isinstance(field.default, tuple):
        return ", ".join(f"`{item}`" for item in field.default) or "empty"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`" if field.default not in ("", {}) else "empty"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
