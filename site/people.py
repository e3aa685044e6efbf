"""The people of the site: unix users, their Slurm accounts, and the issuer's clients that act for them."""

import pwd
from dataclasses import dataclass

from commands import run
from trouble import SiteError

MARK = "FirecREST site"


@dataclass(frozen=True)
class Person:
    """A client of the issuer and the unix user that its tokens name."""

    name: str
    user: str
    ours: bool = True
    accounts: tuple[str, ...] = ()
    operator: bool = False  # of Slurm: manages reservations, and everybody's jobs
    service: bool = False  # the client is a service account, whose first role is the user

    @property
    def client(self) -> str:
        """Client id at the issuer."""
        return f"firecrest-{self.name}"


PEOPLE = (
    Person("alice", "fcalice", accounts=("projecta", "projectb")),
    Person("bob", "fcbob", accounts=("projectb",)),
    Person("carol", "fccarol"),
    Person("dave", "fcdave", accounts=("projecta",), operator=True),
    Person("mallory", "fcmallory", accounts=("projectb",)),
    Person("robot", "fcdave", ours=False, service=True),
    Person("nobody", "nosuchuser", ours=False),
    Person("root", "root", ours=False),
)
PROBE_USER = "fcprobe"  # the service's own, of no client
USERS = (*(person.user for person in PEOPLE if person.ours), PROBE_USER)


def ensure_users() -> None:
    """Make the unix users that are missing; raises SiteError where a name belongs to somebody else."""
    for user in USERS:
        entry = _entry(user)
        if entry is None:
            run("useradd", "--create-home", "--comment", MARK, "--shell", "/bin/bash", user)
            # not the "!" of useradd: without PAM, sshd takes that for a locked account
            run("usermod", "--password", "*", user)
        elif entry.pw_gecos != MARK:
            raise SiteError(f"the unix user {user} exists and is not one of the site's (its comment is not {MARK!r}): left alone")


def remove_users() -> None:
    """Remove the unix users that the site made, with their homes."""
    for user in USERS:
        entry = _entry(user)
        if entry is not None and entry.pw_gecos == MARK:
            run("userdel", "--remove", user)


def _entry(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None
