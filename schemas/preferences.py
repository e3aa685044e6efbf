"""What a client would rather have, as it says in `Prefer` (RFC 7240)."""

import re

_BLANK = r"[ \t]*+"
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_WORD = rf'(?:{_NAME}|"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*+")'
_PARAMETER = rf"{_NAME}(?:{_BLANK}={_BLANK}{_WORD})?"
_PREFERENCE = rf"({_NAME})(?:{_BLANK}={_BLANK}({_WORD}))?+(?:{_BLANK};{_BLANK}(?:{_PARAMETER})?+)*+"
_ELEMENT = re.compile(rf"[ \t,]*+(?:{_PREFERENCE})?+{_BLANK}(?:,|\Z)")
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
    at = 0
    while at < len(text):
        element = _ELEMENT.match(text, at)
        if element is None:
            return {}
        if element[1]:
            found.setdefault(element[1].lower(), element[2] or "")
        at = element.end()
    return found
