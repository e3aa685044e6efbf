"""`python -m deploy.servers PART`: a part of the demo centre as a container's one process.

The programs of site/ listen on 127.0.0.1; the part's port is shown to other containers by a relay, once all of them answer.
The host must be called "localhost" where Slurm runs: its configuration says so.
"""

import asyncio
import contextlib
import importlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import facts
import people
from deploy.parts import PARTS, Part
from layout import Layout
from program import Program
from rendering import render

HANDED = Path("/volumes")
STATE = Path("/var/lib/firecrest")
TLS_CA = HANDED / "public" / "tls.pem"
PATIENCE = 180
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


class Place(Layout):
    """The one folder that a container has for its servers."""

    @property
    def state(self) -> Path:
        """The folder itself."""
        return STATE


def main(name: str) -> int:
    """Run the part until it is told to end, or one of its programs ends."""
    os.umask(0o022)
    part = PARTS[name]
    site = prepared(HANDED / name, part)
    running: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for program in programs(site, part):
            running.append(_started(program))
            _await(program, running[-1])
            _say(f"{program.name} answers")
        asyncio.run(_show(part, running))
    finally:
        for process in reversed(running):
            _end(process)
    return 1


def prepared(handed: Path, part: Part) -> facts.Site:
    """The site of this container: with the ports, secrets and keys that the setup handed over."""
    layout = Place(STATE)
    for folder in (layout.state, layout.etc, layout.run, layout.data, layout.logs, layout.keys, layout.keys / "public"):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not (STATE / "site.json").exists():
        facts.private(STATE / "site.json", (handed / "seed.json").read_text())
    _take_over(handed, layout)
    site = facts.site(layout, settled=False)
    if site.ports[part.port] != part.inner:
        raise SystemExit(f"port {part.inner} is taken")
    facts.write_down(site)
    render(site)
    if "ssh_server" in part.modules:
        people.ensure_users()
    return site


def _take_over(handed: Path, layout: Place) -> None:
    """Put keys and certificates where the programs of site/ look for them."""
    for key in ("host", "host.pub"):
        if (handed / key).exists():
            facts.private(layout.keys / key, (handed / key).read_text())
    layout.tls.mkdir(exist_ok=True)
    for kind in ("pem", "key"):
        if (handed / f"tls.{kind}").exists():
            facts.private(layout.tls / f"radosgw.{kind}", (handed / f"tls.{kind}").read_text())
            shutil.chown(layout.tls / f"radosgw.{kind}", "ceph")
    if TLS_CA.exists():  # for curl and radosgw, which calls the API
        shutil.copy(TLS_CA, "/usr/local/share/ca-certificates/firecrest.crt")
        subprocess.run(["/usr/sbin/update-ca-certificates"], check=True)
    if (HANDED / "public" / "ca.pub").exists():
        shutil.copy(HANDED / "public" / "ca.pub", layout.keys / "public" / "ca.trusted")


def programs(site: facts.Site, part: Part) -> list[Program]:
    """The programs of the part, each after those it needs."""
    return [program for module in part.modules for program in importlib.import_module(module).programs(site)]


def _started(program: Program) -> "subprocess.Popen[bytes]":
    program.prepare()
    user = pwd.getpwnam(program.user)
    return subprocess.Popen(
        program.argv,
        cwd=program.directory or "/",
        env={**ENVIRONMENT, **program.environment},
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=os.getgrouplist(program.user, user.pw_gid),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _await(program: Program, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while not program.ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{program.name} does not answer")
        time.sleep(0.1)
    program.settle()


async def _show(part: Part, running: "list[subprocess.Popen[bytes]]") -> None:
    """Relay the part's port until a program ends."""

    async def relay(outer: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner, forth = await asyncio.open_connection("127.0.0.1", part.inner)
            await asyncio.gather(_pump(outer, forth), _pump(inner, back))
        back.close()

    server = await asyncio.start_server(relay, "0.0.0.0", part.shown)  # noqa: S104 - other containers come here
    _say(f"shown on port {part.shown}")
    async with server:
        while all(process.poll() is None for process in running):  # noqa: ASYNC110 - Popen tells nobody of its end
            await asyncio.sleep(1)
    _say("a program has ended")


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def _say(what: str) -> None:
    sys.stderr.write(f"servers: {what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
