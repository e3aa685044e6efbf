"""How archives are packed and unpacked."""

import posixpath
import re

from schemas.errors import CommandFailed
from schemas.utilities import Compress, Extract
from workers.host import Command, Host
from workers.performing import Scene, performs

_FILTERS = {"tar": (), "gz": ("--gzip",), "tgz": ("--gzip",), "bz2": ("--bzip2",), "xz": ("--xz",)}


@performs(Compress)
def compress(op: Compress, host: Host, scene: Scene) -> str:
    """Nothing; the archive is there, and holds the last component of the path."""
    words = packing(op.source_path, op.target_path, dereference=op.dereference)
    return host.run(Command(words, lambda _: "", seconds=scene.limits.utilities_timeout))


@performs(Extract)
def extract(op: Extract, host: Host, scene: Scene) -> str:
    """Nothing; what the archive held is in the directory. Raises CommandFailed when it held nothing."""

    def parse(stdout: bytes) -> str:
        # tar takes a compressed file of few bytes that is no archive for an empty one
        if not stdout:
            raise CommandFailed(f"There are no files in {op.source_path}.")
        return ""

    words = unpacking(op.source_path, op.target_path, kind=op.format())
    return host.run(Command(words, parse, seconds=scene.limits.utilities_timeout))


def packing(source: str, target: str, *, dereference: bool) -> tuple[str, ...]:
    """The command that packs the source into a tar archive compressed with gzip."""
    folder, name = posixpath.split(source.rstrip("/"))
    links = ("--dereference",) if dereference else ()
    # --force-local: a colon in a name is no host.
    return ("tar", *links, "-cz", "--force-local", f"--file={as_file(target)}", f"--directory={folder or _root(source)}", "--", name or ".")


def unpacking(source: str, target: str, *, kind: str) -> tuple[str, ...]:
    """The command that unpacks the source, an archive of that format, into a directory, and prints what it unpacks."""
    if kind == "zip":
        return ("unzip", "-o", _literally(as_file(source)), "-d", as_file(target))
    return ("tar", "-xv", *_FILTERS[kind], "--force-local", f"--file={as_file(source)}", f"--directory={target}")


def _root(source: str) -> str:
    return "/" if source.startswith("/") else "."


def as_file(path: str) -> str:
    """The path, never to be taken for an option or for standard input."""
    return path if path.startswith("/") else f"./{path}"


def _literally(path: str) -> str:
    """The path as a pattern of unzip, which takes none literally."""
    return re.sub(r"[\[*?]", r"[\g<0>]", path)
