"""Cost curves over the size of what is asked for: directories and files, each size beside the same over a ControlMaster."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.api import Api
from bench.contest import Way, contest
from bench.folders import folders
from bench.plots import Plot
from bench.series import CallFailedError, Series
from bench.stage import Stage
from bench.tables import Part, failures, ms, ratio, table

ENTRIES = (1, 10, 100, 1_000, 10_000, 100_000)
SIZES = (1, 16, 256, 1024, 5 * 1024)  # KB
_LS, _SSH_LS = "API `ls`", "`ssh … ls -l`"
_VIEW, _DOWNLOAD, _CAT = "API `view`", "API `download`", "`ssh … cat`"
_HEADER = ("", "p50 ms", "p95 ms", "p50 / floor", "p95 / floor", "n", "errors")
_LARGE = 1_000  # entries, or KB, above which fewer calls are made
Found = dict[int, dict[str, Series]]


def directories(stage: Stage, *, sizes: tuple[int, ...], rounds: int, calls: int) -> list[Part]:
    """The times of `ls` by the number of entries."""
    api, found = Api(stage.address()), Found()
    for size in sizes:
        with folders([stage.user], entries=size) as (folder,):
            ways = _listing(stage, api, folder, size)
            found[size] = contest(ways, rounds=_rounds(size, rounds), calls=calls, warm_up=2)
    api.close()
    return [_part("directories", "ls by the size of a directory", "entries", found, floor=_SSH_LS)]


def _listing(stage: Stage, api: Api, folder: str, size: int) -> Mapping[str, Way]:
    return {_LS: lambda: api.ls(folder, entries=size), _SSH_LS: lambda: stage.master.ls(folder, entries=size)}


def outputs(stage: Stage, *, sizes: tuple[int, ...], rounds: int, calls: int) -> list[Part]:
    """The times of `view` and `download` by the size of a file of text."""
    api, found = Api(stage.address()), Found()
    with _files(stage.user, sizes) as files:
        for size, path in files.items():
            found[size] = contest(_reading(stage, api, path, size * 1024), rounds=_rounds(size, rounds), calls=calls, warm_up=2)
    api.close()
    return [_part("outputs", "a file's content by its size", "KB", found, floor=_CAT)]


def _reading(stage: Stage, api: Api, path: str, length: int) -> Mapping[str, Way]:
    return {
        _VIEW: lambda: _check(len(api.get("/utilities/view", targetPath=path)["output"]), length),
        _DOWNLOAD: lambda: _check(len(api.read("/utilities/download", sourcePath=path)), length),
        _CAT: lambda: _check(len(stage.master.run("cat", path)), length),
    }


def _check(found: int, length: int) -> None:
    if found != length:
        raise CallFailedError(f"{found} bytes came, not {length}")


@contextmanager
def _files(owner: str, sizes: tuple[int, ...]) -> Iterator[dict[int, str]]:
    """A file of text of each size, in KB."""
    line = "x" * 63 + "\n"
    with TemporaryDirectory(prefix="firecrest-bench.") as root:
        Path(root).chmod(0o755)
        paths = {size: Path(root, str(size)) for size in sizes}
        for size, path in paths.items():
            path.write_text(line * (size * 16), encoding="ascii")
            shutil.chown(path, owner)
        yield {size: str(path) for size, path in paths.items()}


def _rounds(size: int, rounds: int) -> int:
    return rounds if size <= _LARGE else max(1, rounds // 4)


def _part(name: str, title: str, across: str, found: Found, *, floor: str) -> Part:
    rows = [row for size, ways in found.items() for row in _rows(size, across, ways, ways[floor])]
    lines = {way: _points(found, lambda ways, way=way: ways[way].p50) for way in next(iter(found.values()))}  # type: ignore[misc]
    said = failures(*(series for ways in found.values() for series in ways.values()))
    return Part(name, table(_HEADER, rows), said, (Plot(name, title, across, "p50, ms", lines),))


def _points(found: Found, measure: Callable[[dict[str, Series]], float]) -> list[tuple[float, float]]:
    return [(size, 1000 * measure(ways)) for size, ways in found.items() if measure(ways) > 0]


def _rows(size: int, across: str, ways: dict[str, Series], least: Series) -> list[tuple[str, ...]]:
    return [
        (
            f"{size:,} {across}: {name}",
            *(ms(series.p50), ms(series.p95), ratio(series.p50, least.p50), ratio(series.p95, least.p95)),
            *(str(len(series.seconds)), str(len(series.failures))),
        )
        for name, series in ways.items()
    ]
