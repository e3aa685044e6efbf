"""Archives are packed and unpacked (contract, 1.2)."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from requests import Response

from tests.real_site import Client, told
from tests.site.conftest import Folder
from tests.site.test_utilities import A_FOLDER, DENIED, INVALID, NO_FOLDER, failed

NAMES = ("plain", "two  blanks ", "ü 日本 🦀", "-rf", "--help", "[a-z]?", "*", "a:b", "$HOME")
PACKERS = {
    "zip": ("zip", "-qr"),
    "tar": ("tar", "-cf"),
    "gz": ("tar", "-czf"),
    "tgz": ("tar", "-czf"),
    "bz2": ("tar", "-cjf"),
    "xz": ("tar", "-cJf"),
}


def compress(client: Client, source: str, target: str, **options: str) -> Response:
    return client.post("/utilities/compress", data={"sourcePath": source, "targetPath": target, **options})


def extract(client: Client, source: str, target: str, **options: str) -> Response:
    return client.post("/utilities/extract", data={"sourcePath": source, "targetPath": target, **options})


def done(answer: Response, name: str) -> None:
    """The answer is a success in just these words."""
    assert (answer.status_code, answer.json()) == (201, {"description": f"Success to {name} file.", "output": ""}), answer.text


@pytest.fixture
def tree(folder: Folder) -> str:
    """A folder with a file in it, and a link to that."""
    path = folder.folder("tree")
    folder.file("tree/ü file", b"content", mode=0o640)
    Path(path, "link").symlink_to("ü file")
    return path


def packed(folder: Folder, kind: str, name: str = "") -> str:
    """Path of an archive of the tree, made without us."""
    place = f"{folder.path}/{name or f'some archive.{kind}'}"
    subprocess.run((*PACKERS[kind], place, "tree"), cwd=folder.path, check=True)
    return place


@pytest.mark.parametrize("dereference", ["", "false", "True"])
def test_a_tree_is_packed_under_its_last_name(alice: Client, folder: Folder, tree: str, dereference: str) -> None:
    target = f"{folder.path}/an archive.tar.gz"
    done(compress(alice, f"{tree}/", target, dereference=dereference), "compress")
    with tarfile.open(target, "r:gz") as archive:
        assert sorted(archive.getnames()) == ["tree", "tree/link", "tree/ü file"]
        assert archive.getmember("tree/link").issym() == (dereference != "True")
    assert Path(target).owner() == "fcalice"


@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_name_are_packed_and_unpacked(alice: Client, folder: Folder, name: str) -> None:
    source, target, place = folder.file(name, b"x"), f"{folder.path}/{name}.tgz", folder.folder("place")
    done(compress(alice, source, target), "compress")
    done(extract(alice, target, place), "extract")
    assert [(entry.name, entry.read_bytes()) for entry in Path(place).iterdir()] == [(name, b"x")]


def test_relative_names_are_of_the_home_directory(alice: Client, folder: Folder, tree: str) -> None:
    here = folder.path.removeprefix("/home/fcalice/")
    done(compress(alice, f"{here}/tree", f"{here}/-a.tgz"), "compress")
    done(extract(alice, f"{here}/-a.tgz", f"{here}/tree"), "extract")
    assert Path(tree, "tree", "ü file").read_bytes() == b"content"


def test_names_of_the_home_directory_itself_are_no_options(alice: Client) -> None:
    home = Folder("/home/fcalice", "fcalice")
    places = [Path(home.file("-x", b"x")), Path(home.folder("-d")), Path("/home/fcalice/-a:b.tgz"), Path("/home/fcalice/-d/-x")]
    try:
        done(compress(alice, "-x", "-a:b.tgz"), "compress")
        done(extract(alice, "-a:b.tgz", "-d"), "extract")
        assert places[3].read_bytes() == b"x"
    finally:
        for place in reversed(places):
            place.rmdir() if place.is_dir() else place.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("options", [{}, {"extension": "auto"}, {"extension": "", "type": ""}], ids=["absent", "auto", "empty"])
def test_an_archive_is_unpacked_by_its_suffix(alice: Client, folder: Folder, tree: str, kind: str, options: dict[str, str]) -> None:
    source, place = packed(folder, kind), folder.folder("place")
    done(extract(alice, source, place, **options), "extract")
    assert Path(place, "tree", "ü file").read_bytes() == b"content"
    done(extract(alice, source, place, **options), "extract")


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize(
    ("field", "form"), [("extension", ".{}"), ("type", ".{}"), ("extension", "{}"), ("type", "{}")], ids=[".e", ".t", "e", "t"]
)
def test_an_archive_without_suffix_is_unpacked_by_its_type(
    alice: Client, folder: Folder, tree: str, kind: str, field: str, form: str
) -> None:
    source, place = packed(folder, kind, f"archive.{kind}"), folder.folder("place")
    nameless = Path(source).rename(f"{folder.path}/archive")
    done(extract(alice, str(nameless), place, **{field: form.format(kind)}), "extract")
    assert Path(place, "tree", "ü file").read_bytes() == b"content"


def test_the_zip_with_a_pattern_for_a_name_is_the_one_unpacked(alice: Client, folder: Folder, tree: str) -> None:
    packed(folder, "zip", "ab.zip")
    (Path(tree) / "ü file").write_bytes(b"the right one")
    packed(folder, "zip", "a*.zip")
    done(extract(alice, f"{folder.path}/a*.zip", folder.folder("place")), "extract")
    assert Path(folder.path, "place", "tree", "ü file").read_bytes() == b"the right one"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("file", {}),
        ("file.txt", {}),
        ("file.rar", {"extension": "auto"}),
        ("file.zip", {"extension": "rar"}),
        ("file.tar", {"type": ".7z"}),
        ("dir.zip/file", {}),
        ("zip", {}),
    ],
)
def test_other_formats_are_refused(alice: Client, folder: Folder, name: str, options: dict[str, str]) -> None:
    source = f"{folder.path}/{name}"
    answer = extract(alice, source, folder.path, **options)
    body = {"description": "Error on extract operation", "error": f"Unsupported file format in {source}."}
    assert (answer.status_code, answer.json()) == (400, body)
    assert not told(answer.headers)


def test_what_takes_too_long_is_told_as_clients_know_it(alice: Client, folder: Folder) -> None:
    os.mkfifo(f"{folder.path}/endless.tar")
    Path(folder.path, "endless.tar").chmod(0o666)
    answer = extract(alice, f"{folder.path}/endless.tar", folder.path)
    text = "Command has finished with timeout signal"
    assert (answer.status_code, answer.json()) == (400, {"description": "Error on extract operation", "error": text})
    assert answer.headers["X-Timeout"] == text


def test_a_compressed_file_that_is_no_archive_is_not_said_to_be_extracted(alice: Client, folder: Folder) -> None:
    place = folder.folder("place")
    for size, error in ((1, "There are no files in"), (5000, "This does not look like a tar archive")):
        path = folder.file("notes.txt", b"x" * size)
        subprocess.run(("gzip", "-kf", path), check=True)
        answer = extract(alice, f"{path}.gz", place)
        assert (answer.status_code, answer.json()["description"]) == (400, "Error on extract operation")
        assert error in answer.json()["error"]
        assert error in answer.headers["X-Error"]
    assert not list(Path(place).iterdir())


@pytest.mark.parametrize(
    ("name", "source", "target", "header", "error"),
    [
        ("compress", "missing", "new.tgz", INVALID, "No such file or directory"),
        ("compress", "missing/x", "new.tgz", INVALID, "No such file or directory"),
        ("compress", "file", "missing/x", INVALID, "No such file or directory"),
        ("compress", "file", "closed/x", DENIED, "Permission denied"),
        ("compress", "file", "tree", A_FOLDER, "Is a directory"),
        ("compress", "unreadable", "new.tgz", DENIED, "Permission denied"),
        ("extract", "missing.tar", "tree", INVALID, "No such file or directory"),
        ("extract", "missing.tgz", "tree", INVALID, "No such file or directory"),
        ("extract", "unreadable.tar", "tree", DENIED, "Permission denied"),
        ("extract", "unreadable.zip", "tree", DENIED, "Permission denied"),
        ("extract", "good.tar", "missing", INVALID, "No such file or directory"),
        ("extract", "good.tar", "closed", DENIED, "Permission denied"),
        ("extract", "good.tar", "read-only", DENIED, "Permission denied"),
        ("extract", "good.zip", "read-only", DENIED, "Permission denied"),
        ("extract", "good.tar", "file", NO_FOLDER, "Not a directory"),
        ("extract", "directory.tar", "tree", A_FOLDER, "Is a directory"),
        ("extract", "wrong.tar", "tree", None, "This does not look like a tar archive"),
        ("extract", "wrong.gz", "tree", None, "not in gzip format"),
        ("extract", "wrong.bz2", "tree", None, "is not a bzip2 file"),
        ("extract", "wrong.xz", "tree", None, "File format not recognized"),
        ("extract", "wrong.zip", "tree", None, "End-of-central-directory signature not found"),
        ("extract", "missing.zip", "tree", None, "cannot find or open"),
    ],
)  # fmt: skip
def test_failures_on_the_system_have_their_header(
    alice: Client, folder: Folder, tree: str, name: str, source: str, target: str, header: tuple[str, str] | None, error: str
) -> None:
    for made in ("file", "wrong.tar", "wrong.gz", "wrong.bz2", "wrong.xz", "wrong.zip"):
        folder.file(made, b"x" * 1000)
    for made in ("unreadable", "unreadable.tar", "unreadable.zip"):
        folder.file(made, mode=0)
    for kind in ("tar", "zip"):
        packed(folder, kind, f"good.{kind}")
    folder.folder("closed", mode=0)
    folder.folder("read-only", mode=0o555)
    folder.folder("directory.tar")
    values = {"sourcePath": os.path.join(folder.path, source), "targetPath": os.path.join(folder.path, target)}  # noqa: PTH118
    answer = alice.post(f"/utilities/{name}", data=values)
    failed(answer, op=name, header=header or ("X-Error", answer.json()["error"].splitlines()[0]), error=error)
