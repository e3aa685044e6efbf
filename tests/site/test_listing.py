"""What `ls` does with trees, links, pages and names (contract, 1.2.1)."""

from pathlib import Path

from tests.real_site import Client
from tests.site.conftest import Folder
from tests.site.test_utilities import DENIED, INVALID, entries, failed, ls


def test_names_of_every_kind_are_listed_recursively(alice: Client, folder: Folder) -> None:
    for name in ("-rf", "new\nline", 'a "quote": ', "it's", "日本", "total 0", '"x":'):
        folder.folder(name)
        folder.file(f"{name}/-file\n{name}")
    found = entries(ls(alice, folder.path, recursive="true"))
    assert {name for name in found if "/" in name} == {
        f"{name}/-file\n{name}" for name in ("-rf", "new\nline", 'a "quote": ', "it's", "日本", "total 0", '"x":')
    }
    assert len(found) == 14


def test_pages_of_a_recursive_listing_hold_entries_of_subdirectories(alice: Client, folder: Folder) -> None:
    folder.folder("a")
    for name in ("a/1", "a/2", "b"):
        folder.file(name)
    pages = [list(entries(ls(alice, folder.path, recursive="1", pageSize=2, pageNumber=number))) for number in (1, 2)]
    assert pages == [["a", "b"], ["a/1", "a/2"]]


def test_a_linked_directory_is_entered_only_when_it_is_the_one_asked_for(alice: Client, folder: Folder) -> None:
    folder.folder("real")
    folder.folder("real/deep")
    folder.file("real/deep/file")
    Path(folder.path, "link").symlink_to("real")
    Path(folder.path, "real", "inner").symlink_to("deep")
    found = entries(ls(alice, f"{folder.path}/link", recursive="true"))
    assert set(found) == {"deep", "deep/file", "inner"}
    assert (found["inner"]["type"], found["inner"]["link_target"]) == ("l", "deep")
    followed = entries(ls(alice, f"{folder.path}/link", recursive="true", followLinks="true"))
    assert followed["inner"]["type"] == "d"


def test_a_link_to_a_file_is_listed_as_itself(alice: Client, folder: Folder) -> None:
    folder.file("real", b"123")
    Path(folder.path, "link").symlink_to("real")
    (entry,) = entries(ls(alice, f"{folder.path}/link")).values()
    assert (entry["name"], entry["type"], entry["link_target"]) == (f"{folder.path}/link", "l", "real")


def test_paths_may_be_written_in_many_ways(alice: Client, folder: Folder) -> None:
    folder.folder("-sub dir")
    folder.file("-sub dir/x")
    here = folder.path.removeprefix("/home/fcalice/")
    for path in (f"{folder.path}/", f"/{folder.path}", f"{folder.path}/.", f"{folder.path}/-sub dir/..", here, f"./{here}//"):
        assert set(entries(ls(alice, path, recursive="true"))) == {"-sub dir", "-sub dir/x"}


def test_an_unsorted_listing_shows_all_entries(alice: Client, folder: Folder) -> None:
    for name in (".hidden", "b", "a"):
        folder.file(name)
    found = entries(ls(alice, folder.path, unsorted="true"))
    assert set(found) == {".", "..", ".hidden", "a", "b"}
    assert found["a"]["user"] == "fcalice"


def test_a_folder_of_many_entries_is_listed_whole(alice: Client, folder: Folder) -> None:
    for number in range(5000):
        Path(folder.path, f"file-{number:04} ü").touch()
    assert list(entries(ls(alice, folder.path))) == [f"file-{number:04} ü" for number in range(5000)]


def test_a_tree_that_cannot_be_read_whole_is_not_listed_in_part(alice: Client, folder: Folder) -> None:
    folder.folder("closed", mode=0)
    failed(ls(alice, folder.path, recursive="true"), op="ls", header=DENIED, error="cannot open directory")
    Path(folder.path, "dangling").symlink_to("no where")
    failed(ls(alice, folder.path, followLinks="true"), op="ls", header=INVALID, error="cannot access")
