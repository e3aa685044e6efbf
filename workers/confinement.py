"""Keeping operations within the paths that a system's settings allow, by what is true on the system when a command starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from schemas.errors import FirecrestError, PermissionDenied
from schemas.operation import Operation
from schemas.places import Place
from schemas.settings import System
from workers.host import Command, Host

T = TypeVar("T")

_OUTSIDE = 116
_WORDS = "outside of the paths that may be used here"

# A constant program: the allowed paths, the places, and the command that it becomes are its arguments. Whatever it cannot find out is
# outside. Links are read by readlink and find; names may hold any character, line breaks too, which become another one in what is compared.
GUARD = r"""
set -f
line='
'
IFS=$line
roots=
refuse() { printf '%s: outside of the paths that may be used here\n' "$1" >&2; exit 116; }
while [ "$1" != : ]; do
  root=$(readlink -mn -- "$1" && echo /) || refuse "$1"
  root=${root%/}
  case $root in *"$line"*) refuse "$1";; esac
  roots=$roots${root%/}/$line
  shift
done
shift
inside() {
  for root in $roots; do
    case ${1%/}/ in "$root"*) return 0;; esac
  done
  return 1
}
# Whether any links that find meets lead outside: prints none, some (but all inside), or outside.
links() {
  { find "$@" -exec readlink -mz -- {} +; [ "$?" -le 1 ] && printf ':\0'; } 2>/dev/null | tr '\0\n' '\n\001' | {
    found=none
    while IFS= read -r real; do
      case $real in :) echo "$found"; exit;; esac
      inside "$real" || break
      found=some
    done
    echo outside
  }
}
while [ "$1" != : ]; do
  reach=$1 path=$2 name=; shift 2
  [ "$reach" != entry ] || name=${path##*/}
  case $name in .|..) name=;; esac
  folder=${path%"$name"}
  real=$(readlink -mn -- "${folder:-.}" && echo /) || refuse "$path"
  real=${real%/}
  [ -z "$name" ] || real=${real%/}/$name
  inside "$real" || refuse "$path"
  case $reach in
    links) [ "$(links "$real" -maxdepth 1 -type l)" != outside ] || refuse "$path";;
    tree)
      found=$(links "$real" -type l)
      [ "$found" != some ] || found=$(links -L "$real" -xtype l)
      [ "$found" != outside ] || refuse "$path";;
  esac
done
shift
unset IFS
exec "$@"
"""


@dataclass(frozen=True)
class Confinement:
    """The paths that may be used, none being all, and the places that an operation touches."""

    roots: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()

    def words(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command line that does the same where all places are allowed, and where they are not, nothing."""
        if not self.roots or not self.places:
            return tuple(argv)
        touched = [word for place in self.places for word in (place.reach, place.path)]
        return ("sh", "-c", GUARD, "sh", *self.roots, ":", *touched, ":", *argv)

    def command(self, command: Command[T]) -> Command[T]:
        """The command, with those words; PermissionDenied is what it raises besides."""

        def fails(code: int, message: str) -> FirecrestError:
            if code == _OUTSIDE and message.endswith(_WORDS):
                return PermissionDenied(message)
            return command.fails(code, message)

        return replace(command, argv=self.words(command.argv), fails=fails)

    def also(self, path: str) -> "Confinement":
        """The same, for what touches that path too."""
        return replace(self, places=(*self.places, Place(path))) if path else self


@dataclass(frozen=True)
class ConfinedHost:
    """A host on which every command finds out first whether its places are allowed."""

    host: Host
    bounds: Confinement

    def run(self, command: Command[T]) -> T:
        """As the host does; raises PermissionDenied for what is outside, before anything is read or written."""
        return self.host.run(self.bounds.command(command))

    def proven(self) -> bool:
        """As the host says."""
        return self.host.proven()


def confinement(op: Operation, system: System, user: str) -> Confinement:
    """What an operation of the user's is confined to on the system."""
    if not system.allowed_paths:
        return Confinement()
    return Confinement(tuple(path.replace("{user}", user) for path in system.allowed_paths), op.places())


def within(host: Host, bounds: Confinement) -> Host:
    """The host, confined if there is anything to confine."""
    return ConfinedHost(host, bounds) if bounds.roots and bounds.places else host


def also_within(host: Host, path: str) -> Host:
    """The host, if it is confined, for what touches that path too."""
    return ConfinedHost(host.host, host.bounds.also(path)) if isinstance(host, ConfinedHost) else host


def unconfined(host: Host) -> Host:
    """The host for what has to be cleaned away wherever it is."""
    return host.host if isinstance(host, ConfinedHost) else host
