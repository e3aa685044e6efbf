"""The compact form of what is signed (RFC 7515, 7.1) in its one strict spelling: PyJWT reads many of a signature as the same."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

_THREE_PARTS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)


def strictly_written(text: str) -> bool:
    """Whether the text is three parts in base64url without padding, line breaks, other characters or loose bits."""
    return bool(_THREE_PARTS.fullmatch(text)) and all(map(_is_canonical, text.split(".")))


def _is_canonical(part: str) -> bool:
    try:
        return urlsafe_b64encode(urlsafe_b64decode(part + "=" * (-len(part) % 4))).decode().rstrip("=") == part
    except ValueError:
        return False
