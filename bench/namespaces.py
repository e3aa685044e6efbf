"""Network namespaces on this machine, each with a link to it as another machine would have."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NETWORK = "10.213.0.0/16"


class Namespace:
    """A network namespace: `address` is its own, `host` that of this machine on the link between them."""

    def __init__(self, number: int) -> None:
        """One of the numbers 1 to 254; made and removed by `namespaces`."""
        self.name = f"fcbench{number}"
        self.host, self.address = f"10.213.{number}.1", f"10.213.{number}.2"

    def command(self, words: list[str]) -> list[str]:
        """The same command in the namespace."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *words]

    def make(self) -> None:
        """Make it and its link. Raises subprocess.CalledProcessError."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("addr", "add", f"{self.host}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")
        for words in (f"addr add {self.address}/24 dev eth0", "link set lo up", "link set eth0 up", f"route add default via {self.host}"):
            _ip("-n", self.name, *words.split())

    def remove(self) -> None:
        """Remove it, and with it the link; nothing when it is not there."""
        with suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self.name)


@contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many, which are removed at the end."""
    made = [Namespace(number) for number in range(1, count + 1)]
    try:
        for one in made:
            one.remove()  # left by a run that was killed
            one.make()
        yield made
    finally:
        for one in made:
            one.remove()


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, stderr=subprocess.DEVNULL)
