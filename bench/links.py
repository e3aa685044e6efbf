"""A network of a given speed between this machine and itself."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_ROOT = ("dev", "lo", "root", "handle", "1:", "htb", "r2q", "1000")


@contextmanager
def limited(port: int, *, megabits: int) -> Iterator[None]:
    """Let what goes to a server on that port of 127.0.0.1, and what comes from it, pass at so many Mbit/s in all, each way."""
    _tc("qdisc", "add", *_ROOT)
    try:
        for number, end in enumerate(("dport", "sport"), start=1):
            flow = f"1:{number}"
            _tc("class", "add", "dev", "lo", "parent", "1:", "classid", flow, "htb", "rate", f"{megabits}mbit", "burst", "256k")
            _tc(*f"filter add dev lo parent 1: protocol ip u32 match ip {end} {port} 0xffff flowid {flow}".split())
        yield
    finally:
        _tc("qdisc", "del", "dev", "lo", "root")


def _tc(*words: str) -> None:
    subprocess.run(("tc", *words), check=True)
