"""What an object store does that knows no forms and lists late, and what becomes of it: tests that radosgw cannot have."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.settings import Storage
from tests.real_site import Client, Site
from tests.site.conftest import Folder
from tests.site.test_transfers import MB, at, local, nothing_is_left, send, staged, store, upload
from tests.staged.conftest import unlisted
from workers.staging import STAGINGS

__all__ = ["local", "nothing_is_left", "staged", "store"]
pytestmark = pytest.mark.stores("swift")


@pytest.mark.usefixtures("nothing_is_left")
def test_a_file_that_gets_into_no_listing_arrives(alice: Client, site: Site, folder: Folder, local: Callable[..., str]) -> None:
    ticket = upload(alice, folder.path, local(b"unlisted"))
    command = at(alice, ticket, "111")["data"]["msg"]["command"]
    with unlisted(site, STAGINGS["s3v4"](Storage.model_validate(site.facts["storage"])), alice.user):
        send(command)

    at(alice, ticket, "114")
    assert Path(folder.path, "local.bin").read_bytes() == b"unlisted"


@pytest.mark.usefixtures("nothing_is_left")
def test_what_is_too_large_is_not_taken_where_the_object_store_cannot_refuse_it(
    alice: Client, site: Site, folder: Folder, tmp_path: Path
) -> None:
    most = Storage.model_validate(site.facts["storage"]).max_file_size * MB
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(most + 1)
    ticket = upload(alice, folder.path, str(tmp_path / "huge"))
    send(at(alice, ticket, "111")["data"]["msg"]["command"])

    assert at(alice, ticket, "400")["data"]["msg"] == "File exceeds size limit"
    assert not list(Path(folder.path).iterdir())
