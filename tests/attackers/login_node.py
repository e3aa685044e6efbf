"""A login node that an attacker owns, host key and all: it lets everybody in, notes all it is asked, and answers as it pleases."""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import paramiko

from schemas.settings import System
from workers.connections import PromptSocket

_TOKEN = re.compile(rb"_[0-9a-f]{32}")
Answer = Callable[[paramiko.Channel, bytes, bytes], None]


def honestly(channel: paramiko.Channel, token: bytes, _: bytes) -> None:
    """As a node does that has been asked for nothing special."""
    channel.sendall(b"done\n" + token + b" 0\n")
    channel.sendall_stderr(token + b"\n")


@dataclass
class Seen:
    """All that the node was shown."""

    users: list[str] = field(default_factory=list)
    keys: list[paramiko.PKey] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    scripts: list[bytes] = field(default_factory=list)


class LoginNode:
    """Listens on a free port of 127.0.0.1; `answer` is what it does with every command after the first words of a shell."""

    def __init__(self, answer: Answer = honestly) -> None:
        self.answer = answer
        self.key = paramiko.ECDSAKey.generate()
        self.seen = Seen()
        self.transports: list[paramiko.Transport] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for transport in self.transports:
            transport.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def system(self) -> System:
        """The settings with which it is entered, its own key pinned: nobody knows yet."""
        pin = f"{self.key.get_name()} {self.key.get_base64()}"
        return System(name="owned", host="127.0.0.1", port=self._listener.getsockname()[1], host_keys=(pin,))

    def _begin(self, function: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                transport = paramiko.Transport(PromptSocket(fileno=plain.detach()))
                transport.add_server_key(self.key)
                self.transports.append(transport)
                with suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=_Node(self))

    def serve(self, channel: paramiko.Channel) -> None:
        """Be the shell of a session."""
        self._begin(self._serve, channel)

    def _serve(self, channel: paramiko.Channel) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._greet(channel)
            while script := self._script(channel):
                self.seen.scripts.append(script)
                found = _TOKEN.search(script)
                self.answer(channel, found[0] if found else b"", script)

    def _greet(self, channel: paramiko.Channel) -> None:
        found = _TOKEN.search(self._script(channel))
        token = found[0] if found else b""
        channel.sendall(token + b"\n4711\n" + token + b" 0\n")
        channel.sendall_stderr(token + b"\n" + token + b"\n")

    def _script(self, channel: paramiko.Channel) -> bytes:
        script = b""
        while not script.endswith(b"; }\n") and (piece := channel.recv(65536)):
            script += piece
        return script


class _Node(paramiko.ServerInterface):
    def __init__(self, node: LoginNode) -> None:
        self._node = node

    def get_allowed_auths(self, username: str) -> str:
        self._node.seen.users.append(username)
        return "password,keyboard-interactive,publickey,none"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._node.seen.users.append(username)
        self._node.seen.keys.append(key)
        return paramiko.common.AUTH_SUCCESSFUL

    def check_auth_password(self, *words: str) -> int:
        self._node.seen.asked.append(f"password {words[1]}")
        return paramiko.common.AUTH_FAILED

    def check_channel_request(self, *asked: Any) -> int:
        self._node.seen.asked.append(asked[0])
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._node.seen.commands.append(command)
        self._node.serve(channel)
        return True

    def check_channel_pty_request(self, *_: Any) -> bool:
        self._node.seen.asked.append("pty")
        return True

    def check_channel_forward_agent_request(self, *_: Any) -> bool:
        self._node.seen.asked.append("agent")
        return True

    def check_channel_x11_request(self, *_: Any) -> bool:
        self._node.seen.asked.append("x11")
        return True

    def check_channel_env_request(self, *asked: Any) -> bool:
        self._node.seen.asked.append(f"env {asked[1]!r}")
        return True

    def check_channel_subsystem_request(self, *asked: Any) -> bool:
        self._node.seen.asked.append(f"subsystem {asked[1]}")
        return False

    def check_port_forward_request(self, *asked: Any) -> int:
        self._node.seen.asked.append("forwarding")
        return int(asked[1])
