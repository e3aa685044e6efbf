"""Which rights operations need; the API's refusals are in tests/served, the delegation's here."""

import time
from collections import defaultdict
from collections.abc import Iterator
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import api.status  # noqa: F401 (every service is alive)
import schemas.catalogue  # noqa: F401 (every operation)
from broker.grants import GrantSigner, GrantVerifier, sign_claims
from broker.key_rings import KeyRing
from broker.once import Once
from broker.tokens import TokenVerifier
from schemas.compute import Readable, SubmitPath
from schemas.grant import GrantError
from schemas.operation import INTERNAL, OPERATIONS, Operation
from schemas.rights import EVERY_RIGHT, Right
from schemas.settings import Settings
from schemas.utilities import Chown, Ls, Mkdir, Whoami
from tests.pure.test_tokens import HERE, claims, key_set, serving, token
from workers.authorities import KeyAuthority
from workers.certificate_log import CertificateLog
from workers.certificates import UserKey
from workers.delegation import Delegation
from workers.policy import Policy


def test_what_reads_needs_no_right_to_change_anything() -> None:
    reading = {operation.task(): operation.route.rights for operation in (*OPERATIONS, *INTERNAL) if operation.route.reads}
    assert [task for task, rights in reading.items() if Right.READ not in rights] == []
    assert not {"storage.Unstage", "storage.Writable", "utilities.Mkdir", "utilities.Rm"} & set(reading)


def test_operations_need_these_rights() -> None:
    needed = defaultdict(set)
    for operation in (*OPERATIONS, *INTERNAL):
        needed["any" if operation.route.rights == EVERY_RIGHT else " ".join(sorted(operation.route.rights))].add(operation.task())
    assert dict(needed) == {
        "read": {
            "utilities.Ls", "utilities.FileType", "utilities.Stat", "utilities.Checksum", "utilities.Head", "utilities.Tail",
            "utilities.View", "utilities.Download", "compute.Nodes", "compute.OneNode", "compute.Partitions",
            "compute.Reservations", "compute.Jobs", "compute.OneJob", "compute.Accounting",
            "reservations.Reservations", "storage.StageOut", "storage.ReadableSource",
        },
        "write": {
            "utilities.UploadFile", "utilities.Mkdir", "utilities.Rm", "utilities.Rename", "utilities.Copy", "utilities.Chmod",
            "utilities.Symlink", "utilities.Compress", "utilities.Extract", "storage.StageIn", "storage.Writable",
        },
        "submit": {
            "compute.SubmitUpload", "compute.SubmitPath", "compute.Cancel", "compute.Readable", "compute.CopyJob", "compute.MoveJob",
            "compute.RsyncJob", "compute.RemoveJob", "compute.CompressJob", "compute.ExtractJob",
        },
        "admin": {
            "utilities.Chown", "reservations.CreateReservation", "reservations.UpdateReservation", "reservations.DeleteReservation",
        },
        "read write": {"storage.Invalidate", "storage.Unstage"},
        "submit write": {"tasks.CancelTask"},
        "any": {
            "utilities.Whoami", "compute.Reachable", "tasks.Tasks", "tasks.OneTask", "status.Services", "status.OneService",
            "status.Systems", "status.OneSystem", "status.Filesystems", "status.FilesystemsOf", "status.Parameters",
            "utilities.Alive", "compute.Alive", "storage.Alive", "tasks.Alive", "reservations.Alive",
        },
    }  # fmt: skip


CA, WORKER, API, OPENER = (
    Ed25519PrivateKey.generate(),
    Ed25519PrivateKey.generate(),
    Ed25519PrivateKey.generate(),
    X25519PrivateKey.generate(),
)


@pytest.fixture(scope="module")
def delegation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delegation]:
    """A delegation whose one issuer's scopes allow something."""
    folder = tmp_path_factory.mktemp("log")
    with serving(200, key_set()) as url:
        rights = {"look": ["read"], "change": ["write"], "run": ["submit"], "rule": ["admin"]}
        settings = Settings.model_validate(
            {
                "systems": [{"name": "cluster", "host": "localhost", "host_keys": ["none"]}],
                "issuers": [{"issuer": HERE, "jwks_url": url, "audience": "firecrest", "scope_rights": rights}],
                "broker": {"url": "redis://127.0.0.1:9"},
                "keys": {"private": "/none", "public": "/none"},
            }
        )
        yield Delegation(
            authority=lambda: KeyAuthority(CA),
            openers=lambda: [OPENER],
            workers=KeyRing(WORKER.public_key(), name="worker"),
            grants=GrantVerifier(API.public_key()),
            tokens=TokenVerifier(settings.issuers),
            policy=Policy(settings.delegation, seconds=300),
            log=CertificateLog(folder / "log"),
            once=Once(None, "petition"),
            settings=settings,
        )


def petition(op: Operation, scope: str) -> str:
    """What a worker asks with a grant that a broken-in API might sign for whatever token it has seen."""
    signer = GrantSigner(API, OPENER.public_key())
    who = {"user": "alice", "system": "cluster", "token": token(claims(scope=scope))}
    grant = signer.grant(op.task(), op.parameters(), task_id="1a", seconds=10, **who)
    asked = {"call": uuid4().hex, "worker": "utilities.1", "public_key": UserKey().public_line(), "at": int(time.time()), "grant": grant}
    return sign_claims(asked, WORKER)


LS, MKDIR, CHOWN = Ls(target_path="x"), Mkdir(target_path="x"), Chown(target_path="x", group="x")
CASES = {Right.READ: LS, Right.WRITE: MKDIR, Right.SUBMIT: SubmitPath(target_path="x"), Right.ADMIN: CHOWN}


@pytest.mark.parametrize("scope", ["look", "change", "run", "rule", "other"])
def test_the_delegation_asks_the_token_itself_for_the_right(delegation: Delegation, scope: str) -> None:
    allowed = {"look": Right.READ, "change": Right.WRITE, "run": Right.SUBMIT, "rule": Right.ADMIN}
    for right, op in CASES.items():
        if allowed.get(scope) is right:
            assert delegation.certify(petition(op, scope)).startswith("ssh-ed25519-cert")
        else:
            with pytest.raises(GrantError, match="does not allow"):
                delegation.certify(petition(op, scope))


def test_a_probe_of_the_gateway_needs_what_its_operation_needs(delegation: Delegation) -> None:
    assert delegation.certify(petition(Readable(target_path="x"), "run"))
    with pytest.raises(GrantError, match="does not allow"):
        delegation.certify(petition(Readable(target_path="x"), "look"))
    for scope in ("look", "change", "run", "rule"):
        assert delegation.certify(petition(Whoami(), scope))
    with pytest.raises(GrantError, match="does not allow"):
        delegation.certify(petition(Whoami(), "other"))
