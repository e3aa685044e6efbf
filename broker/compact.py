"""The compact form of what is signed (RFC 7515, 7.1) in its one strict spelling: PyJWT reads many of a signature as the same."""

import re
from typing import Final

_THREE_PARTS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
# How a part may end, by how many letters there are beyond groups of four: with no bits that belong to no byte.
_ENDS: Final = {1: "", 2: "AQgw", 3: "AEIMQUYcgkosw048"}


def strictly_written(text: str) -> bool:
    """Whether the text is three parts in base64url without padding, line breaks, other characters or loose bits."""
    return bool(_THREE_PARTS.fullmatch(text)) and all(map(_is_canonical, text.split(".")))


def _is_canonical(part: str) -> bool:
    beyond = len(part) % 4
    return not beyond or part[-1] in _ENDS[beyond]
