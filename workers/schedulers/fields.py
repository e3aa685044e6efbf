"""Records of fields with a token between them that nobody can guess, since names of jobs may hold anything."""

import secrets
from collections.abc import Iterator, Sequence


def separator() -> str:
    """A new token of letters and digits.

    It begins with a letter: `squeue --Format` takes leading digits for the width of a field.
    """
    return secrets.choice("abcdef") + secrets.token_hex(8)[1:]


def layout(names: Sequence[str], token: str) -> str:
    """What `squeue --Format` is told, so that it prints the token behind every field."""
    return ",".join(f"{name}:{token}" for name in names)


def records(stdout: bytes, token: str, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Records by the names of their fields, each field followed by the token, each record by a newline."""
    fields = stdout.decode(errors="replace").split(token)
    for start in range(0, len(fields) - len(names), len(names)):
        first, *others = fields[start : start + len(names)]
        yield dict(zip(names, [first.removeprefix("\n"), *others], strict=True))
