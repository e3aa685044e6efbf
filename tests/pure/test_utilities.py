"""What coreutils print, recorded, as the gateway reads it."""

import pytest

from schemas.errors import CommandFailed, PatternNotFound
from workers.contents import lines_with
from workers.utilities import identities, listing, text, unquoted

RECURSIVE = b"""\
"/data":
total 8
drwxr-xr-x 2 ann staff 4096 2026-01-02T03:04:05 "a \\"b\\" \\\\ c"
lrwxrwxrwx 1 ann staff    4 2026-01-02T03:04:05 "link" -> "some where"
crw-rw-rw- 1 root root 1, 3 2026-01-02T03:04:05 "null"
-rw-r--r--+ 1 ann 1234 7 2026-01-02T03:04:05 "x"

"/data/a \\"b\\" \\\\ c":
total 0
-rw-r--r-- 1 ann staff 0 2026-01-02T03:04:05 "line\\nbreak"
"""


def test_a_listing_is_read_with_headings_totals_links_devices_and_access_lists() -> None:
    folder, link, device, listed, nested = listing(RECURSIVE)

    assert (folder.name, folder.type, folder.permissions) == ('a "b" \\ c', "d", "rwxr-xr-x")
    assert (link.name, link.type, link.link_target) == ("link", "l", "some where")
    assert (device.type, device.size) == ("c", "1, 3")
    assert (listed.permissions, listed.group, listed.last_modified) == ("rw-r--r--", "1234", "2026-01-02T03:04:05")
    assert nested.name == 'a "b" \\ c/line\nbreak'


@pytest.mark.parametrize(
    ("quoted", "plain"),
    [
        ('"a"', "a"),
        ('"\\303\\251"', "é"),
        ('"é"', "é"),
        ('"\\t\\n\\a\\""', '\t\n\a"'),
        ('"\\\\n"', "\\n"),
        ('"\\3771"', "\ufffd1"),
    ],
)
def test_c_quotes_are_undone(quoted: str, plain: str) -> None:
    assert unquoted(quoted) == plain


def test_identities_are_read_with_and_without_names() -> None:
    groups = identities(b"uid=5(ann) gid=6 groups=6,7(a b),8(c)\n")

    assert (groups.user.name, groups.user.id, groups.group.name, groups.group.id) == ("ann", "5", "", "6")
    assert [(group.id, group.name) for group in groups.groups] == [("6", ""), ("7", "a b"), ("8", "c")]


def test_a_pattern_is_text_and_not_an_expression() -> None:
    assert lines_with(".", "a.b\nab\n") == "a.b\n"
    assert lines_with(None, "ab") == "ab"
    with pytest.raises(PatternNotFound):
        lines_with("x.*", "xyz\n")


def test_what_is_not_utf8_is_no_text() -> None:
    with pytest.raises(CommandFailed, match="codec can't decode"):
        text(b"\xff")
