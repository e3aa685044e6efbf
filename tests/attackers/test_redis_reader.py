"""Who reads all of Redis, all the time: every thing in it that looks like a credential is tried, and opens nothing (docs/security.md)."""

import json
import re
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import paramiko
import pytest
import requests

from broker.redis_users import password_file
from tests.attackers.arms import Insider, certificate_facts
from tests.attackers.conftest import Folder, Witness
from tests.real_site import Client, Site
from tests.site.test_secrecy import _unpacked, dump
from tests.site.transfers import at, download, invalidate, sent, upload
from workers.certificates import UserKey

_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# names of accounts and of a cluster, which stand beside the secrets
PUBLIC = ("s3_access_key", "ceph_fsid")
_CERTIFICATE = re.compile(r"ssh-ed25519-cert-v01@openssh\.com [A-Za-z0-9+/=]+")


@dataclass(frozen=True)
class Loot:
    """All that was sent to Redis or stood in it, what of it was just sent, each with what is in base64 there, and what users were told."""

    text: str
    sent: str
    told: dict[str, str]
    task_ids: list[str]


@pytest.fixture(scope="module")
def loot(site: Site) -> Iterator[Loot]:
    """What is found while alice and bob work: waited calls, a job, an upload and a download."""
    alice, bob, stranger = Client(site, "alice"), Client(site, "bob"), Client(site, "nobody")
    witness, redis = Witness(site.redis()), site.redis()
    place = Path("/home/fcalice", f"test-{secrets.token_hex(8)}")
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    (place / "file").write_bytes(b"x" * 1000)
    dumps = []
    with witness.watching():
        for client in (alice, bob, stranger):
            client.get("/utilities/whoami")
        assert Insider(site).petitioner().certify_probe(UserKey().public_line(), site.facts["system"])
        assert alice.task(alice.get("/compute/partitions"))["status"] == "200"
        incoming, outgoing = upload(alice, f"{place}/came", "/etc/hostname"), download(alice, f"{place}/file")
        form, link = at(alice, incoming, "111"), at(alice, outgoing, "117")
        dumps.append(dump(redis).decode(errors="replace"))
        told = {"command": form["data"]["msg"]["command"], "url": link["data"]["url"]}
        assert requests.get(told["url"], timeout=30).content == b"x" * 1000
        assert sent(form).returncode == 0
        at(alice, incoming, "114")
        dumps.append(dump(redis).decode(errors="replace"))
    everything = witness.text() + "".join(dumps)
    tokens = {name: str(client.headers["Authorization"]).removeprefix("Bearer ") for name, client in (("alice", alice), ("bob", bob))}
    passed = witness.text() + "".join(_unpacked(witness.text()))
    yield Loot(everything + "".join(_unpacked(everything)), passed, told | tokens, [one.json()["task_id"] for one in (incoming, outgoing)])
    invalidate(alice, outgoing.json()["task_id"])
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


def test_the_reader_has_seen_what_there_is_to_see(loot: Loot) -> None:
    for word in ("delegation.Certify", "storage.StageIn", "storage.StageOut", "utilities.Whoami", *loot.task_ids):
        assert word in loot.text
    assert len(set(_JWT.findall(loot.text))) > 5
    assert _CERTIFICATE.search(loot.text)


def test_no_token_password_or_private_key_is_among_it(site: Site, loot: Loot) -> None:
    known = [*loot.told["alice"].split(".")[1:], *loot.told["bob"].split(".")[1:]]
    known += [str(client["secret"]) for client in site.facts["clients"].values()]
    known += [str(value) for name, value in site.facts["secrets"].items() if name not in PUBLIC]
    known.append(str(site.facts["storage"]["secret_key"]))
    folder = Path(site.facts["keys"]["redis"])
    known += [password_file(folder, user).read_text().strip() for user in ("api", "worker", "delegation", "beat", "flower")]
    assert [secret for secret in known if secret in loot.text] == []
    for sign in ("PRIVATE KEY", "openssh-key-v1"):
        assert sign not in loot.text


def test_no_link_to_the_object_store_is_among_it(loot: Loot) -> None:
    signatures = re.findall(r"(?:X-Amz-Signature=|signature=)([0-9a-f]{64})", f"{loot.told['url']} {loot.told['command']}")
    assert len(signatures) == 2, loot.told
    for signature in signatures:
        assert signature not in loot.text
    for word in ("X-Amz-Signature", "x-amz-signature", "curl "):
        assert word not in loot.sent


def test_nothing_signed_that_is_among_it_is_a_token(site: Site, loot: Loot) -> None:
    """Grants, petitions and sealed links: each is refused as a bearer token, whole or in parts."""
    for text in sorted(set(_JWT.findall(loot.text)))[:200]:
        answer = requests.get(f"{site.url}/tasks", headers={"Authorization": f"Bearer {text}"}, timeout=30)
        assert answer.status_code == 401, text


def test_no_seal_opens_without_the_key_of_whom_it_is_for(site: Site, loot: Loot) -> None:
    """The seals are there; what is in them is in no other part's reach: the keys of API and workers open none."""
    grants = [text for text in set(_JWT.findall(loot.text)) if _is_grant(text)]
    seals = {jwt.decode(text, options={"verify_signature": False})["seal"] for text in grants}
    assert (len(grants) > 3, len(seals) > 1) == (True, True)  # a token is sealed once a minute
    for name in ("alice", "bob"):
        body = json.loads(urlsafe_b64decode(loot.told[name].split(".")[1] + "=="))
        assert body["iat"]
        assert not any(loot.told[name] in str(seal) for seal in seals)


def _is_grant(text: str) -> bool:
    try:
        return "seal" in jwt.decode(text, options={"verify_signature": False})
    except jwt.PyJWTError:
        return False


def test_certificates_that_are_among_it_open_nothing_without_their_keys(site: Site, loot: Loot) -> None:
    insider = Insider(site)
    for line in sorted(set(_CERTIFICATE.findall(loot.text)))[:5]:
        (user,) = certificate_facts(line).principals
        with pytest.raises(paramiko.AuthenticationException):
            insider.enter(user, UserKey(), line)


def test_what_the_reader_does_see_is_what_the_page_says(loot: Loot, folder: Folder) -> None:
    """Parameters, names of users and results are there in clear: docs/security.md says so, and this is how it would be noticed."""
    for word in ("fcalice", "fcbob", "/home/fcalice", "partition"):
        assert word in loot.text
