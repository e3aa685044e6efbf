"""Ceph's radosgw as the object store, over one monitor and one OSD on a sparse file."""

import uuid
from pathlib import Path

import ports
from commands import run
from facts import Site
from folders import owned
from probes import ceph_state, serves
from program import Program
from rendering import mon_address


def programs(site: Site) -> list[Program]:
    """ceph-mon, ceph-osd, radosgw."""
    return [_mon(site), _osd(site), _radosgw(site)]


def _environment(site: Site) -> dict[str, str]:
    return {"CEPH_CONF": str(site.layout.etc / "ceph.conf")}


def _folder(site: Site, name: str) -> Path:
    return site.layout.data / "ceph" / name


def _mon(site: Site) -> Program:
    return Program(
        "ceph-mon",
        ("/usr/bin/ceph-mon", "-f", "-i", "a"),
        ready=lambda: (
            ports.is_open(site.ports["ceph_mon"]) and ceph_state(site.layout.run / "ceph" / "mon.a.asok", "mon_status") == "leader"
        ),
        user="ceph",
        environment=_environment(site),
        prepare=lambda: _prepare_mon(site),
    )


def _prepare_mon(site: Site) -> None:
    owned(site.layout.run / "ceph", "ceph")
    for name in ("", "mon", "osd", "rgw"):
        owned(_folder(site, name), "ceph", 0o700)
    store, map_ = _folder(site, "mon") / "store.db", _folder(site, "monmap")
    wanted = mon_address(site)
    noted = _folder(site, "mon-address")
    if not store.exists():
        _run(site, "monmaptool", "--create", "--clobber", "--fsid", site.secrets["ceph_fsid"], "--addv", "a", wanted, str(map_))
        _run(site, "ceph-mon", "--mkfs", "-i", "a", "--monmap", str(map_))
    elif noted.read_text() != wanted:
        _run(site, "ceph-mon", "-i", "a", "--extract-monmap", str(map_))
        _run(site, "monmaptool", "--rm", "a", str(map_))
        _run(site, "monmaptool", "--addv", "a", wanted, str(map_))
        _run(site, "ceph-mon", "-i", "a", "--inject-monmap", str(map_))
    noted.write_text(wanted)


def _osd(site: Site) -> Program:
    return Program(
        "ceph-osd",
        ("/usr/bin/ceph-osd", "-f", "-i", "0"),
        ready=lambda: ceph_state(site.layout.run / "ceph" / "osd.0.asok", "status") == "active",
        after=("ceph-mon",),
        user="ceph",
        environment=_environment(site),
        prepare=lambda: _prepare_osd(site),
    )


def _prepare_osd(site: Site) -> None:
    if (_folder(site, "osd") / "ready").exists():
        return
    identity = str(uuid.uuid4())
    _run(site, "ceph", "osd", "new", identity)
    _run(site, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
    _run(site, "ceph", "config", "set", "mon", "auth_allow_insecure_global_id_reclaim", "false")


def _radosgw(site: Site) -> Program:
    return Program(
        "radosgw",
        ("/usr/bin/radosgw", "-f", "-n", "client.rgw.a"),
        ready=lambda: serves(site.s3_url),
        after=("ceph-osd",),
        user="ceph",
        environment=_environment(site),
        prepare=lambda: _prepare_user(site),
    )


def _prepare_user(site: Site) -> None:
    done = _folder(site, "user")
    if not done.exists():
        keys = (f"--access-key={site.secrets['s3_access_key']}", f"--secret-key={site.secrets['s3_secret_key']}")
        _run(site, "radosgw-admin", "-n", "client.rgw.a", "user", "create", "--uid=firecrest", "--display-name=FirecREST", *keys)
        done.touch()


def _run(site: Site, *argv: str) -> None:
    run("setpriv", "--reuid=ceph", "--regid=ceph", "--init-groups", *argv, environment=_environment(site))
