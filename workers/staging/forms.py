"""Commands that send a file from a client's machine: one line of curl, whatever the file is called."""

import re
import shlex
from collections.abc import Mapping

from workers.staging.staging import Form

_CURL = ("curl", "-f", "--show-error", "-s", "-i")
# curl reads ";", "," and quotes in the value of -F, and files instead of values after "@" and "<"
_READ_BY_CURL = re.compile(r'[;,"\\]|^[@<\s]|\s$')


def post_form(url: str, data: Mapping[str, str], source: str) -> Form:
    """The file `source` as the last field of a form, after `data`."""
    fields = [word for name, value in data.items() for word in (_option(value), f"{name}={value}")]
    command = shlex.join([*_CURL, "-X", "POST", url, *fields, "-F", f"file=@{_form_file(source)}"])
    return Form(command, _parameters("POST", url, source) | {"data": dict(data)})


def put_form(url: str, source: str) -> Form:
    """The file `source` as the body of a request."""
    # -g: curl would take braces and brackets in the file's name for a pattern
    command = shlex.join([*_CURL, "-g", "-X", "PUT", url, "-T", _file(source)])
    return Form(command, _parameters("PUT", url, source))


def _parameters(method: str, url: str, source: str) -> dict[str, object]:
    return {"method": method, "url": url, "data": {}, "files": source, "headers": {}, "json": {}, "params": {}}


def _option(value: str) -> str:
    return "--form-string" if _READ_BY_CURL.search(value) else "-F"


def _form_file(source: str) -> str:
    path = _file(source)
    if not _READ_BY_CURL.search(path):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _file(source: str) -> str:
    """The path, kept from being taken for the standard input."""
    return "./-" if source == "-" else source
