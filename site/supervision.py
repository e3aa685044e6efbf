"""supervisord, which keeps the programs of one site: its start, its end, and what it is told in between."""

import contextlib
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from layout import Layout
from program import Program
from trouble import SiteError

# What started the programs is told by this variable of their environment
MARK = "FIRECREST_SITE"
DAEMON = Path(__file__).with_name("supervisor_daemon.py")
WAITING, NO_WAITING = True, False
ENDED = {"STOPPED", "EXITED", "FATAL", "BACKOFF", "UNKNOWN"}

HEAD = """\
[supervisord]
user = root
directory = {state}
logfile = {logs}/supervisord.log
logfile_backups = 1
pidfile = {run}/supervisord.pid
umask = 022
minfds = 4096

[unix_http_server]
file = {run}/supervisor.sock
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{run}/supervisor.sock

"""

# A machine's own name may lead to an address that is not the loopback's, or nowhere. The site's processes have a
# UTS namespace in which it is "localhost", so that Slurm finds and binds 127.0.0.1 on every machine.
NAMED_LOCALHOST = ("unshare", "--uts", "sh", "-c", 'echo localhost >/proc/sys/kernel/hostname && exec "$@"', "sh")


class Supervisor:
    """The supervisord of one site."""

    def __init__(self, layout: Layout) -> None:
        """Talk to the supervisord of this layout, running or not."""
        self._layout = layout
        self._socket = layout.run / "supervisor.sock"

    @property
    def runs(self) -> bool:
        """Whether it answers."""
        try:
            self._rpc().getState()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def start(self, programs: Sequence[Program]) -> None:
        """Start it, or have the one that runs take over what changed in the programs."""
        layout = self._layout
        head = HEAD.format(state=layout.state, logs=layout.logs, run=layout.run)
        config = layout.etc / "supervisord.conf"
        config.touch(mode=0o600)
        config.write_text(head + "\n".join(program.section(layout.logs, layout.state) for program in programs))
        if self.runs:
            self._reload()
        else:
            self._spawn()

    def stop(self) -> None:
        """End it, and with it every program that still runs."""
        with contextlib.suppress(OSError, xmlrpc.client.Error):
            self._rpc().shutdown()
        deadline = time.monotonic() + 30
        while self.runs and time.monotonic() < deadline:
            time.sleep(0.05)

    def states(self) -> dict[str, str]:
        """The state of every program, in supervisord's words."""
        return {entry["name"]: entry["statename"] for entry in self._rpc().getAllProcessInfo()}

    def state(self, name: str) -> str:
        """The state of one program."""
        return str(self._rpc().getProcessInfo(name)["statename"])

    def start_program(self, name: str) -> None:
        """Start a program unless it runs."""
        self._rpc_unless(Faults.ALREADY_STARTED, "startProcess", name, NO_WAITING)

    def stop_program(self, name: str) -> None:
        """Stop a program if it runs, and wait for its end."""
        self._rpc_unless(Faults.NOT_RUNNING, "stopProcess", name, WAITING)

    def _spawn(self) -> None:
        layout = self._layout
        (layout.run / "supervisor.sock").unlink(missing_ok=True)
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            MARK: str(layout.state),
        }
        command = [*NAMED_LOCALHOST, sys.executable, str(DAEMON), "-c", str(layout.etc / "supervisord.conf")]
        started = subprocess.run(command, check=False, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True)
        deadline = time.monotonic() + 20
        while not self.runs:
            if started.returncode or time.monotonic() > deadline:
                raise SiteError(f"supervisord does not start: {started.stdout}{started.stderr}")
            time.sleep(0.05)

    def _reload(self) -> None:
        rpc = self._rpc()
        added, changed, removed = rpc.reloadConfig()[0]
        for name in [*changed, *removed]:
            rpc.stopProcessGroup(name)
            rpc.removeProcessGroup(name)
        for name in [*added, *changed]:
            rpc.addProcessGroup(name)

    def _rpc(self) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def _rpc_unless(self, harmless: int, method: str, *arguments: object) -> None:
        try:
            getattr(self._rpc(), method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != harmless:
                raise SiteError(f"{arguments[0]}: {fault.faultString}") from fault
