"""The rotation of keys: what `python -m broker.keys` does, step by step (docs/operations.md says what is to be done between the steps)."""

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from broker.keys import FORMER, NEXT, OPENERS, PARTS, KeyFileError, make_missing, trust, write_pair


class Rotation:
    """The key of a part, which has at most one other beside it: the one that comes, or the one that goes.

    Raises KeyFileError for a part that is none. A worker that has a name of its own is `worker-NAME`; its private half is worker.key.
    """

    def __init__(self, part: str, *, private: Path, public: Path) -> None:
        self._kind = part.partition("-")[0]
        if self._kind not in PARTS or not re.fullmatch(r"worker-[a-z0-9][a-z0-9_-]{0,62}|[a-z]+", part):
            raise KeyFileError(f"{part} is none of {', '.join(PARTS)} and worker-NAME")
        self._part = part
        self._folders = {".key": private, ".pub": public}

    def enrol(self) -> None:
        """Make the first pair, of a worker with a name of its own."""
        self._refuse("", "is there already")
        self._make("")

    def next(self) -> None:
        """Make the pair that comes: its public half can be given to those who need it before it is used."""
        self._refuse(FORMER, "is there: retire it first, as no more than two are good at a time")
        self._refuse(NEXT, "is there already: take it")
        self._make(NEXT)

    def take(self) -> None:
        """Have the key that comes used from now on; the one before is still good. A private half may be elsewhere (agent, token)."""
        if not self._file(NEXT, ".pub").exists():
            raise KeyFileError(f"{self._file(NEXT, '.pub')} is missing: make it first, with `next`")
        self._keep(".pub")
        if self._kind in OPENERS:
            self._keep(".key")
        for suffix in (".key", ".pub"):
            if self._file(NEXT, suffix).exists():
                self._file(NEXT, suffix).replace(self._file("", suffix))
        self._trust()

    def retire(self) -> None:
        """Have the key that goes be good no more."""
        for suffix in (".pub", ".key"):
            self._file(FORMER, suffix).unlink(missing_ok=True)
        self._trust()

    def _file(self, standing: str, suffix: str) -> Path:
        return self._folders[suffix] / f"{self._kind if suffix == '.key' else self._part}{standing}{suffix}"

    def _make(self, standing: str) -> None:
        for folder in self._folders.values():
            folder.mkdir(mode=0o700 if folder == self._folders[".key"] else 0o755, parents=True, exist_ok=True)
        write_pair(PARTS[self._kind](), private=self._file(standing, ".key"), public=self._file(standing, ".pub"))
        self._trust()

    def _refuse(self, standing: str, why: str) -> None:
        for suffix in (".key", ".pub"):
            if (file := self._file(standing, suffix)).exists():
                raise KeyFileError(f"{file} {why}")

    def _keep(self, suffix: str) -> None:
        """Copy the key in use, under the name of the one that goes: at no moment is there none in use."""
        kept, mode = self._file("", suffix), 0o600 if suffix == ".key" else 0o644
        if not kept.exists():
            return
        fresh = kept.with_name(f".{kept.name}.new")
        fresh.touch(mode=mode)
        fresh.write_bytes(kept.read_bytes())
        fresh.replace(self._file(FORMER, suffix))

    def _trust(self) -> None:
        if self._kind == "ca":
            trust(self._folders[".pub"])


STEPS: Final = {"enrol": Rotation.enrol, "next": Rotation.next, "take": Rotation.take, "retire": Rotation.retire}


def main(words: list[str]) -> int:
    """Do what the command line says; 1 for a step that cannot be made."""
    if len(words) == 2:
        make_missing(*map(Path, words))
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m broker.keys",
        description="Make the key pairs that are missing: PRIVATE PUBLIC. Or make a step of a rotation: STEP PART PRIVATE PUBLIC.",
    )
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("part", help=f"{', '.join(PARTS)} or worker-NAME")
    parser.add_argument("private", type=Path)
    parser.add_argument("public", type=Path)
    asked = parser.parse_args(words)
    try:
        STEPS[asked.step](Rotation(asked.part, private=asked.private, public=asked.public))
    except KeyFileError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    return 0
