"""A look at a folder that sees every file that is put into it: inotify."""

import ctypes
import os
import struct
from collections import Counter

_MOVED_TO, _CREATED = 0x80, 0x100
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Moves:
    """Counts what appears in a folder, by name, from now on."""

    def __init__(self, folder: str) -> None:
        self._file = _libc.inotify_init1(os.O_NONBLOCK)
        if self._file < 0 or _libc.inotify_add_watch(self._file, folder.encode(), _MOVED_TO | _CREATED) < 0:
            raise OSError(ctypes.get_errno(), f"inotify does not watch {folder}")
        self._seen: Counter[str] = Counter()

    def onto(self, name: str) -> int:
        """How often a file of that name was moved there or made there."""
        self._read()
        return self._seen[name]

    def close(self) -> None:
        """Look no more."""
        os.close(self._file)

    def _read(self) -> None:
        while True:
            try:
                events = os.read(self._file, 65536)
            except BlockingIOError:
                return
            while events:
                _, _, _, length = _EVENT.unpack_from(events)
                name = events[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode()
                self._seen[name] += 1
                events = events[_EVENT.size + length :]
