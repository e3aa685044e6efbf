"""What an object store does that knows no forms and lists late, and what becomes of it: tests that radosgw cannot have."""

from pathlib import Path

import pytest

from schemas.settings import Storage
from tests.real_site import Client, Site
from tests.site.conftest import Folder
from tests.site.transfers import MB, Local, at, send, upload
from tests.staged.conftest import unlisted
from workers.staging import STAGINGS

pytestmark = [pytest.mark.usefixtures("nothing_is_left"), pytest.mark.stores("swift")]


def test_a_file_that_gets_into_no_listing_arrives(alice: Client, site: Site, folder: Folder, local: Local) -> None:
    ticket = upload(alice, folder.path, local(b"unlisted"))
    ready = at(alice, ticket, "111")
    with unlisted(site, STAGINGS["s3v4"](Storage.model_validate(site.facts["storage"])), alice.user):
        send(ready)

    at(alice, ticket, "114")
    assert Path(folder.path, "local.bin").read_bytes() == b"unlisted"


def test_what_is_too_large_is_not_taken_where_the_object_store_cannot_refuse_it(
    alice: Client, site: Site, folder: Folder, tmp_path: Path
) -> None:
    most = Storage.model_validate(site.facts["storage"]).max_file_size * MB
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(most + 1)
    ticket = upload(alice, folder.path, str(tmp_path / "huge"))
    send(at(alice, ticket, "111"))

    assert at(alice, ticket, "400")["data"]["msg"] == "File exceeds size limit"
    assert not list(Path(folder.path).iterdir())
