"""The list of all that workers run on a system, for the wrapper of forced-command sites: `python -m workers.command_lists SYSTEM CA...`.

Prints the list for the system of that name in the settings; the CAs are files of OpenSSH public keys whose certificates count.
The grammar of the rules is that of `deploy/firecrest_command.py`.
"""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

from broker.configuration import read_settings
from schemas.compute import JobRequest
from schemas.places import Place
from schemas.settings import System
from workers import access, contents, copies, probes, trees
from workers.confinement import Confinement
from workers.copies import Run
from workers.host import Command
from workers.schedulers import gridengine, slurm
from workers.schedulers.gridengine import programs as constant
from workers.schedulers.scheduler import Submission, Tails
from workers.streams import Source

Slot = str | dict[str, Any]
Rule = list[Slot]

PATH: Final = "/usr/local/bin:/usr/bin:/bin"

_ANY: Final = {"word": ".*"}
_PATH: Final = {"word": r"\.?/.*"}
_NUMBER: Final = {"word": r"\d+"}
_MORE: Final = {"words": ".*"}
_GUARD: Final = Confinement((".",), (Place("."),)).words(())[2]
# What stands for any text in a sample; numbers and random tokens are seen by their looks.
_X: Final = "\ue000"
_LOOSE: Final = re.compile(rf"{_X}|\b[0-9a-f]{{16,}}|(?:/\.?){{32,}}")
_SECONDS: Final = 1
_RUN: Final = Run(_X, 1, 1, 1)


def like(sample: Command[Any] | Sequence[str]) -> Rule:
    """The rule for all commands that are like a sample, which differs from them in `_X`, numbers and random tokens alone."""
    return [_slot(word) for word in (sample.argv if isinstance(sample, Command) else sample)]


def _slot(word: str) -> Slot:
    if "\n" in word:
        return {"program": digest(word)}
    if not _LOOSE.search(word):
        return _NUMBER if word.isdigit() else word
    fixed, loose = _LOOSE.split(word), [*_LOOSE.findall(word), ""]
    return {"word": "".join(re.escape(text) + _pattern(free) for text, free in zip(fixed, loose, strict=True))}


def _pattern(free: str) -> str:
    return ".*" if free == _X else r"[/.]+" if free[:1] == "/" else "[0-9a-f]+" if free else ""


def digest(program: str) -> str:
    """The SHA-256 by which a constant program is called."""
    return hashlib.sha256(program.encode()).hexdigest()


def _files() -> Iterator[Rule]:
    """The small commands of utilities, and of transfers and jobs where they are the same."""
    options = "-l|-A|--numeric-uid-gid|-R|-L|--dereference-command-line-symlink-to-dir|-Ua"
    yield ["ls", "-1", "--quoting-style=c", "--time-style=+%Y-%m-%dT%H:%M:%S", {"words": options}, "--", _ANY]
    yield ["file", {"words": "-E"}, "-b", "--", _ANY]
    for form in ("%f %i %d %h %u %g %s %X %Y %Z", "%s"):
        yield ["stat", {"words": "--dereference"}, "-c", form, "--", _ANY]
    yield ["sha256sum", "--", _ANY]
    yield from map(like, (("id",), ("id", "-un"), ("id", "-gn"), ("true",), ("date", "+%Y-%m-%dT%H:%M:%S")))
    yield ["mkdir", {"words": "-p"}, "--", _ANY]
    yield ["mv", "--force", "--", _ANY, _ANY]
    yield ["cp", "--force", "-dR", "--preserve=all", "--", _ANY, _ANY]
    yield ["chmod", "-v", "--", _ANY, _ANY]
    yield ["chown", "-v", "--", {"word": "[^:]*:[^:]*"}, _ANY]
    yield ["ln", "-s", "--", _ANY, _ANY]
    yield ["rm", "-r", "--interactive=never", "--", _ANY]
    yield ["head", {"words": r"--(bytes|lines)=-?\d+"}, "--", _ANY]
    yield ["tail", {"words": r"--(bytes|lines)=\+?\d+"}, "--", _ANY]
    archive: Rule = ["--force-local", {"word": r"--file=\.?/.*"}, {"word": "--directory=.*"}]
    yield ["tar", {"words": "--dereference"}, "-cz", *archive, "--", _ANY]
    yield ["tar", "-xv", {"words": "--gzip|--bzip2|--xz"}, *archive]
    yield ["unzip", "-o", _PATH, "-d", _PATH]
    yield [*like(access.writable("", seconds=_SECONDS).argv[:4]), _ANY, _ANY, {"word": r"\.firecrest\.[0-9a-f]{32}"}]


def _samples() -> Iterator[Command[Any]]:
    """The constant programs for files and transfers."""
    yield contents.replacement(_X, Source.of(b"x"), seconds=_SECONDS)
    yield access.readable(_X, seconds=_SECONDS)
    yield access.readable_directory(_X, seconds=_SECONDS)
    yield copies.fetch(_RUN, _X, temporary=_X, etag=_X, seconds=_SECONDS)
    yield copies.send(_RUN, [_X], path=_X, version=_X, seconds=_SECONDS)
    yield copies.look(_RUN, temporary=_X, seconds=_SECONDS)
    yield copies.place(_X, temporary=_X, target=_X, seconds=_SECONDS)
    yield copies.clear(_X, temporary=_X, seconds=_SECONDS)
    yield copies.resolve(_X, _X, seconds=_SECONDS)
    yield copies.measure(_X, seconds=_SECONDS)
    yield trees.locate(_X, seconds=_SECONDS)
    yield trees.measure(_RUN, path=_X, seconds=_SECONDS)
    yield trees.send(_RUN, [_X], path=_X, version=_X, seconds=_SECONDS)
    yield trees.resolve(_X, _X, seconds=_SECONDS)
    yield trees.prepare(_X, seconds=_SECONDS)
    yield trees.unpack(_RUN, work=_X, seconds=_SECONDS)
    yield trees.place(_X, work=_X, target=_X, seconds=_SECONDS)
    yield trees.results(_X, seconds=_SECONDS)


def _submission(after: Sequence[str] = ()) -> Submission:
    return Submission(_X, _X, _X, None, JobRequest(), (), after=after)


def _slurm() -> Iterator[Rule]:
    for after in ((), ("1",)):
        submit = slurm.submit(_submission(after)).argv
        yield [*like(submit[: submit.index("sbatch") - len(after)]), *([{"words": r"[\d_*+]+"}] if after else []), {"command": ["_sbatch"]}]
    yield from (like(slurm.queue(ids=ids, user=user, tails=tails)) for ids, user, tails in product(("", _X), ("", _X), _TAILS))
    yield from (like(slurm.accounting(ids=ids, start=start, end=end)) for ids, start, end in product(("", _X), repeat=3))
    yield [*like(slurm.cancel("").argv[:-1]), {"words": r"\d[\d_,+%*\[\]-]*"}]
    yield from (like(slurm.nodes(names)) for names in ((), (_X,)))
    yield from (like(slurm.partitions()), like(slurm.reservations()), like(slurm.ping()))
    scontrol = ["env", "SLURM_TIME_FORMAT=standard", "scontrol"]
    extent = [{"word": f"{name}=.*"} for name in ("ReservationName", "StartTime", "EndTime", "NodeCnt")]
    yield [*scontrol, "create", "reservation", *extent, {"word": "Features=.*"}, {"word": "Accounts=.*"}]
    yield [*scontrol, "update", *extent]
    yield [*scontrol, "delete", {"word": "ReservationName=.*"}]


_TAILS: Final = (None, Tails(1), Tails(1, 0, 1))


def _sbatch(system: System) -> Rule:
    names = [slurm.option_name(field) for field in JobRequest.model_fields if field != "env"]
    more = ["export-file", "dependency", "kill-on-invalid-dep", "chdir"]
    return ["sbatch", {"words": f"--({'|'.join((*names, *more))})=.*"}, *system.sbatch_options, "--", _ANY]


def _gridengine() -> Iterator[Rule]:
    submit = gridengine.submit(_submission()).argv
    # where the variables are, if there are any
    start = submit.index("-terse") - 1
    yield [*like(submit[:start]), _ANY, {"command": ["_qsub"]}]
    ids = {"word": r"[\d_ ]*"}
    yield ["sh", "-c", {"program": digest(constant.QUEUE)}, "sh", _ANY, _ANY, ids, *[{"word": r"\d*"}] * 4]
    yield [*like(gridengine.accounting(ids="", start="", end="").argv[:5]), ids, *[{"word": r"Y?[\d: -]*"}] * 2]
    yield ["sh", "-c", {"program": digest(constant.CANCEL)}, "sh", ids, {"words": r"[\d.:-]+"}]
    yield from (like(gridengine.nodes(())), like(gridengine.reservations()), like(gridengine.ping()))


def _qsub(system: System) -> Rule:
    options = {"words": "-(pe|l|P|q|hold_jid|a|ar|o|e|t|tc|v|N)|[^-].*"}
    return ["-terse", "-cwd", *system.sbatch_options, options, "-sync", "n", {"word": r"\./.*"}]


def _reservations(system: System) -> Iterator[Rule]:
    extent = [_ANY, _ANY, _ANY, _ANY]
    for more in (["-l"], ["-a", _ANY, *extent, _ANY], ["-u", _ANY, *extent], ["-d", _ANY]):
        yield [*system.reservation_command, *more]


_SCHEDULERS: Final = {"slurm": _slurm, "gridengine": _gridengine}


def rules(system: System) -> dict[str, Rule]:
    """All commands that workers run on the system, by a number and program; those that begin with `_` are parts of others."""
    look = like(probes.look_into([_X], seconds=_SECONDS))[:-1]
    found = [*_files(), *map(like, _samples()), [*look, _MORE], *_SCHEDULERS[system.scheduler]()]
    if system.reservation_command:
        found += _reservations(system)
    once = {f"{at} {rule[0]}": rule for at, rule in enumerate(found) if rule not in found[:at]}
    return once | {"confined": _confined(system, [*once]), "_sbatch": _sbatch(system), "_qsub": _qsub(system)}


def _confined(system: System, names: list[str]) -> Rule:
    """Any of these commands behind the program that keeps it within the paths that the system allows."""
    roots: Rule = [{"word": re.escape(path).replace(re.escape("{user}"), "[^/]+")} for path in system.allowed_paths]
    return ["sh", "-c", {"program": digest(_GUARD)}, "sh", *roots, ":", _MORE, ":", {"command": names}]


def programs() -> dict[str, str]:
    """All constant programs that workers run, by their digests."""
    samples = [
        *_samples(),
        access.writable("", seconds=_SECONDS),
        probes.look_into([_X], seconds=_SECONDS),
        slurm.cancel(""),
        slurm.submit(_submission(("1",))),
    ]
    samples += [slurm.queue(ids=None, user=None, tails=None), slurm.accounting(ids="", start="", end="")]
    samples += [
        gridengine.submit(_submission()),
        gridengine.queue(ids="", user="", tails=None),
        gridengine.cancel("1"),
        gridengine.reservations(),
    ]
    samples += [gridengine.accounting(ids="", start="", end="")]
    return {digest(word): word for sample in samples for word in sample.argv if "\n" in word} | {digest(_GUARD): _GUARD}


def command_list(system: System, authorities: Iterable[str]) -> dict[str, Any]:
    """The list of a system; authorities are lines of public keys as OpenSSH writes them."""
    return {
        "authorities": sorted(map(_fingerprint, authorities)),
        "environment": {"PATH": PATH, **system.forced_environment},
        "programs": programs(),
        "commands": rules(system),
    }


def _fingerprint(line: str) -> str:
    blob = base64.b64decode(next(word for word in line.split() if word.startswith("AAAA")), validate=True)
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"


def main(name: str, *files: str) -> None:
    """Print the list. Raises SystemExit when there is no such system, or no CA."""
    system = read_settings("worker").system(name)
    lines = [line for file in files for line in Path(file).read_text(encoding="ascii").splitlines() if line.strip()]
    if system is None or not lines:
        raise SystemExit(f"there is no system {name}" if system is None else "at least one public key of a CA is needed")
    json.dump(command_list(system, lines), sys.stdout, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
