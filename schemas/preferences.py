"""What a client would rather have, as it says in `Prefer` (RFC 7240)."""

import re

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*"'
_TOKEN = re.compile(rf"[ \t]*({_NAME}|{_QUOTED}|[=;,]|\Z)")
# n is a name, q is quoted: a preference with its parameters, each of which may be missing
_ELEMENT = re.compile(r"(?:n(?:=[nq])?(?:;(?:n(?:=[nq])?)?)*)?")
_MOST = 10**9


def wait_seconds(prefer: str) -> int | None:
    """The N of `wait=N` (section 4.3), at most 10^9; None where it is not said, or not in the RFC's words, which is the same to it."""
    digits = _preferences(prefer).get("wait", "")
    if not re.fullmatch("[0-9]+", digits):
        return None
    significant = digits.lstrip("0") or "0"
    return _MOST if len(significant) > len(str(_MOST)) - 1 else int(significant)


def _preferences(text: str) -> dict[str, str]:
    """Values by name, of each name the first (section 2); nothing if the header is not well-formed."""
    found: dict[str, str] = {}
    element: list[str] = []
    for part in [*_tokens(text), ","]:
        if part != ",":
            element.append(part)
            continue
        kinds = "".join(map(_kind, element))
        if not _ELEMENT.fullmatch(kinds):
            return {}
        if element:
            found.setdefault(element[0].lower(), element[2] if kinds[1:2] == "=" else "")
        element = []
    return found


def _tokens(text: str) -> list[str]:
    """Words and what stands between them; a single `=`, which is no preference, if anything is neither."""
    tokens, at = [], 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return ["="]
        tokens += [token[1]] if token[1] else []
        at = token.end()
    return tokens


def _kind(token: str) -> str:
    return token if token in ("=", ";") else "q" if token.startswith('"') else "n"
