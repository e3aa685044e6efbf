"""`python site start|stop|status|clean|rotate-issuer-key`: an HPC centre of real servers on this machine."""

import argparse
import os
import sys
import time
from pathlib import Path

from centre import Centre
from layout import REPOSITORY, layout
from trouble import SiteError

NOT_RUNNING = 3  # as the LSB's init scripts say it


def main() -> int:
    """Do what the command line says; returns the exit status."""
    options = _options()
    os.umask(0o022)  # the servers' users must get through the folders
    begun = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - begun:5.1f} s] {what}", file=sys.stderr, flush=True)

    try:
        return _do(options, Centre(layout(options.state), say))
    except SiteError as error:
        print(f"site: {error}", file=sys.stderr)
        return 1


def _do(options: argparse.Namespace, centre: Centre) -> int:
    if os.geteuid():
        raise SiteError("the site needs root: its servers have users of their own")
    match options.action:
        case "start":
            centre.start(
                with_gateway=options.gateway,
                with_swift=options.with_swift,
                with_tls=options.with_tls,
                for_tests=options.for_tests,
            )
        case "stop":
            centre.stop()
        case "status":
            states = centre.status()
            print("\n".join(f"{name:<12} {state}" for name, state in states.items()) or "nothing runs")
            return 0 if states else NOT_RUNNING
        case "clean":
            centre.clean()
        case "rotate-issuer-key":
            print(centre.rotate_issuer_key())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="site", description=__doc__)
    parser.add_argument("action", choices=["start", "stop", "status", "clean", "rotate-issuer-key"])
    parser.add_argument("--state", type=Path, default=REPOSITORY / ".site", help="the site's folder (default: .site in the repository)")
    parser.add_argument("--gateway", action=argparse.BooleanOptionalAction, default=True, help="also start the gateway (default)")
    parser.add_argument("--with-swift", action="store_true", help="also start OpenStack Swift, with a second gateway on it")
    parser.add_argument("--with-tls", action="store_true", help="also start a gateway all of whose connections are encrypted")
    parser.add_argument("--for-tests", action="store_true", help="let each user call as often as they like, as tests do")
    return parser.parse_args()


sys.exit(main())
