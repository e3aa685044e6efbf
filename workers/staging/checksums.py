"""What object stores tell of a file's content: MD5 sums, made into an ETag."""

import hashlib
from collections.abc import Sequence


def etag(md5s: Sequence[bytes], *, in_parts: bool) -> str:
    """The ETag of a file, from the MD5 sums (16 bytes each) of its parts, or of the whole of it when it was sent in one request.

    In parts: the MD5 of the parts' MD5s, and their number. That is how S3, radosgw and Swift make it; an object store
    that encrypts may make others.
    """
    if not in_parts:
        (whole,) = md5s
        return whole.hex()
    return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"


def part_sizes(size: int, part_size: int) -> list[int]:
    """The sizes of the parts of a file: all alike, but for the last."""
    whole, rest = divmod(size, part_size)
    return [part_size] * whole + ([rest] if rest or not whole else [])
