"""The ACL file of Redis, as it is written down."""

from pathlib import Path

from broker.redis_users import main, password_file


def test_a_file_that_says_the_same_is_left_alone_and_one_with_a_new_password_is_not(tmp_path: Path) -> None:
    acl, passwords = tmp_path / "users.acl", tmp_path / "passwords"
    main(acl, passwords)
    first = acl.stat()

    main(acl, passwords)
    again = acl.stat()
    password_file(passwords, "api").write_text("another")
    main(acl, passwords)

    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert acl.stat().st_ino != first.st_ino
