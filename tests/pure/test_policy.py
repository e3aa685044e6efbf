"""The policy: who never gets a certificate, and what every certificate states."""

import pytest

from schemas.errors import AccessDenied, TooManyRequests
from schemas.grant import GrantError
from schemas.settings import Delegation
from workers.certificates import CertificateRequest
from workers.policy import Policy

UIDS = {"fcalice": 1000, "daemonic": 999, "toor": 0}


def policy(*, seconds: int = 300, **settings: object) -> Policy:
    return Policy(Delegation.model_validate(settings), seconds=seconds, uid=lambda user: UIDS[user])


def request(user: str = "fcalice") -> CertificateRequest:
    return CertificateRequest("a key", user, "cluster", "0a1b", "worker:host.1")


def test_a_certificate_states_user_system_task_and_worker_and_a_serial_of_its_own() -> None:
    stated = [policy(seconds=120).statement(request(), enrolled="worker") for _ in range(2)]
    assert {(one.user, one.seconds, one.key_id) for one in stated} == {
        ("fcalice", 120, "firecrest user=fcalice system=cluster task=0a1b worker=worker:host.1")
    }
    assert stated[0].serial != stated[1].serial
    assert stated[0].options() == {}


@pytest.mark.parametrize("user", ["root", "toor", "daemon", "nobody", "www-data", "_apt", "systemd-network", "slurm", "munge", "sshd"])
def test_system_accounts_are_not_let_in_by_default(user: str) -> None:
    with pytest.raises(AccessDenied):
        policy().statement(request(user), enrolled="worker")


def test_root_is_not_let_in_though_the_list_forgets_it() -> None:
    lenient = policy(denied_users=["svc-*"])
    assert not lenient.lets_in("root")
    assert not lenient.lets_in("svc-backup")
    assert lenient.lets_in("svc")


@pytest.mark.parametrize(("user", "let_in"), [("fcalice", True), ("daemonic", False), ("unknown", False)])
def test_users_below_a_uid_and_unknown_ones_are_not_let_in(user: str, *, let_in: bool) -> None:
    assert policy(minimum_uid=1000).lets_in(user) is let_in
    assert policy().lets_in(user), "unless it says so, nobody is looked up"


def test_the_name_service_of_the_host_is_asked() -> None:
    real = Policy(Delegation(minimum_uid=1, denied_users=()), seconds=300)
    assert real.lets_in("daemon")
    assert not real.lets_in("surely-nobody-s")


def test_each_worker_has_its_addresses() -> None:
    enrolled = policy(
        source_addresses=["192.0.2.0/24"],
        workers=[{"name": "login1", "source_addresses": ["198.51.100.7/32"]}, {"name": "worker"}],
    )
    assert enrolled.statement(request(), enrolled="login1").options() == {"source-address": "198.51.100.7/32"}
    assert enrolled.statement(request(), enrolled="worker").options() == {"source-address": "192.0.2.0/24"}
    with pytest.raises(GrantError, match="not enrolled"):
        enrolled.statement(request(), enrolled="login2")


def test_a_user_is_given_so_many_a_minute_and_others_are_not_kept_waiting() -> None:
    strict = policy(certificates_per_minute=5)
    for _ in range(5):
        strict.statement(request(), enrolled="worker")
    with pytest.raises(TooManyRequests) as refused:
        strict.statement(request(), enrolled="worker")
    assert 1 <= int(refused.value.says or "") <= 13
    strict.statement(request("fcbob"), enrolled="worker")


def test_no_certificate_lives_longer_than_five_minutes() -> None:
    with pytest.raises(ValueError, match="seconds"):
        policy(seconds=301).statement(request(), enrolled="worker")
