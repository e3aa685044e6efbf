"""The parts of the demo centre, each in a container of its own."""

from typing import NamedTuple


class Part(NamedTuple):
    """Modules of site/ whose programs it runs, its port as site/ calls it, where that listens inside, and where it is shown."""

    modules: tuple[str, ...]
    port: str
    inner: int
    shown: int


PARTS = {
    "cluster": Part(("ssh_server", "slurm_cluster"), "sshd", 12222, 2222),
    "storage": Part(("ceph_cluster",), "radosgw_tls", 17480, 7480),
    "issuer": Part(("issuer",), "issuer", 18080, 8080),
}
