"""What attackers work with: the running site as other tests know it, and what they have seen of its messages."""

from tests.hosts.conftest import sshd_user
from tests.site.conftest import Folder, folder, object_store, records, staged
from tests.site.test_secrecy import Forger, Witness, mkdir, submission, witness

__all__ = ["Folder", "Forger", "Witness", "folder", "mkdir", "object_store", "records", "sshd_user", "staged", "submission", "witness"]
