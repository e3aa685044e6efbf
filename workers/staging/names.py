"""Names that S3 accepts, for users and files of any name."""

import hashlib
import re

from schemas.errors import InvalidParameter

LONGEST_KEY = 1024  # bytes

_LEGAL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_RESERVED = re.compile(r"xn--.*|sthree-.*|.*-s3alias|.*--ol-s3|.*--x-s3")
_MADE = re.compile(r".*-u[0-9a-f]{24}")
# XML, in which keys are listed, cannot carry most of these; in forms object stores replace "${filename}" and strip blanks at the ends
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]|(?<=\$)\{(?=filename\})|^\s+|\s+$")


def bucket_name(user: str, prefix: str = "") -> str:
    """The bucket of a user, one that no other user has: the name itself where S3 allows it, otherwise one made from it.

    A name that looks as if it was made is made anew, so that nobody can be called like another user's bucket.
    """
    plain = prefix + user
    if _LEGAL.fullmatch(plain) and not _RESERVED.fullmatch(plain) and not _MADE.fullmatch(plain):
        return plain
    digest = hashlib.sha256(user.encode(errors="surrogatepass")).hexdigest()[:24]
    stem = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:37].rstrip("-") or "user"
    return f"{stem}-u{digest}"


def key_name(file_name: str, *, room: int = LONGEST_KEY) -> str:
    """The last part of a key: the file's name, less what no key can carry, and its end if it is longer than `room` bytes.

    Raises InvalidParameter for what is not the name of a file.
    """
    if file_name in {"", ".", ".."} or "/" in file_name:
        raise InvalidParameter(f"{file_name!r} is not the name of a file")
    return _UNFIT.sub("_", file_name).encode()[-room:].decode(errors="ignore")
