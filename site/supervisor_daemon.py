"""supervisord less one fault of release 4.3.0: it spins on a pipe whose number a closed connection had before.

Its poller is never told that a connection of supervisorctl is closed; when a new program's stdin pipe gets the same
number and the program closes its stdin, poll() reports an error for it at once, for ever, which nobody handles.
What is still of use is registered anew in every turn of supervisord's loop, so that forgetting it is safe.
"""

import select
import sys

from supervisor import poller
from supervisor.supervisord import main


class ForgetfulPoller(poller.PollPoller):  # type: ignore[misc]
    """Forgets what poll() reports an error for."""

    def _ignore_invalid(self, fd: int, eventmask: int) -> bool:
        ended = eventmask & select.POLLERR and not eventmask & (self.READ | self.WRITE)
        return bool(super()._ignore_invalid(fd, select.POLLNVAL if ended else eventmask))


if __name__ == "__main__":
    poller.Poller = ForgetfulPoller
    main(sys.argv[1:])
