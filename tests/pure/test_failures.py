"""The error table of the contract (1.2.3), on messages that coreutils 9.1 really print in the C.UTF-8 locale."""

import pytest

from workers.failures import failure

ACCESS = "User does not have permissions to access path"
BOTH = "sourcePath and/or targetPath are invalid paths"


@pytest.mark.parametrize(
    ("code", "message", "header", "value"),
    [
        (124, "", "X-Timeout", "Command has finished with timeout signal"),
        (118, "", "X-Error", "Command execution is not allowed in machine"),
        (2, "ls: cannot access '/x': No such file or directory", "X-Invalid-Path", "path is an invalid path"),
        (1, "stat: cannot statx '/x': No such file or directory", "X-Not-Found", "sourcePath not found"),
        (1, "cp: cannot stat '/x': No such file or directory", "X-Not-Found", "sourcePath not found"),
        (1, "mkdir: cannot create directory '/x/y': No such file or directory", "X-Invalid-Path", BOTH),
        (1, "mv: cannot move 'a' to '/x/b': No such file or directory", "X-Invalid-Path", BOTH),
        (1, "rm: cannot remove '/x': No such file or directory", "X-Invalid-Path", "path is an invalid path."),
        (1, "head: cannot open '/x' for reading: No such file or directory", "X-Invalid-Path", "path is an invalid path"),
        (2, "ls: cannot open directory '/root': Permission denied", "X-Permission-Denied", ACCESS),
        (1, "rm: cannot remove '/x': Permission denied", "X-Permission-Denied", ACCESS),
        (1, "mkdir: cannot create directory '/tmp': File exists", "X-Exists", "targetPath already exists"),
        (1, "dd: failed to open '/etc/passwd/x': Not a directory", "X-Not-A-Directory", "targetPath is not a directory"),
        (1, "head: error reading '/tmp': Is a directory", "X-A-Directory", "path is a directory, can't checksum directories"),
        (1, "chmod: changing permissions of '/x': Operation not permitted", "X-Permission-Denied", ACCESS),
        (1, "chown: invalid group: 'g'", "X-Invalid-Group", "group is an invalid group"),
        (1, "chown: invalid user: 'u'", "X-Invalid-Owner", "owner is an invalid user"),
        (1, "chmod: invalid mode: 'x'", "X-Invalid-Mode", "mode is an invalid mode"),
        (1, "something else\nin two lines", "X-Error", "something else"),
        (7, "", "X-Error", "Command has failed with exit status 7"),
    ],
)
def test_a_failed_command_is_told_by_one_header(code: int, message: str, header: str, value: str) -> None:
    error = failure(code, message)

    assert error.headers() == {header: value}
    assert error.body("d")["description"] == "d"
    assert not message or code in {124, 118} or error.body("d")["error"] == message
