"""`Prefer: wait=N`, read as RFC 7240 has it."""

import pytest

from schemas.preferences import wait_seconds

MOST = 10**9


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("wait=0", 0),
        ("WAIT=5", 5),
        ("wait = 5", 5),
        ("wait\t=\t5", 5),
        ("wait=007", 7),
        ("respond-async, wait=10", 10),
        ('respond-async;a="b, wait=1",wait=10', 10),
        ('foo="a\\"b", wait=3', 3),
        ('wait=10; a; b=c;;  ;d="e" ,handling=lenient', 10),
        (" , ,wait=2,", 2),
        ("wait=2, wait=9", 2),
        ("wait=999999999", 999_999_999),
        ("wait=1000000000", MOST),
        (f"wait={'9' * 8000}", MOST),
        (f"wait={'0' * 8000}1", 1),
    ],
)
def test_a_wait_is_understood(header: str, seconds: int) -> None:
    assert wait_seconds(header) == seconds


@pytest.mark.parametrize(
    "header",
    [
        "",
        "wait",
        "wait=",
        "wait=x",
        "wait=-1",
        "wait=+1",
        "wait=1.5",
        "wait=1e3",
        'wait="5"',
        'wait=""',
        "wait=5s",
        "wait=٣",
        "wait=1 2",
        "wait=5, =",
        "wait=5 x",
        "wait=5;=",
        'wait=5, foo="open',
        "wait=x, wait=5",
        "await=5",
        "wait=5\x00",
        "wait=5\n",
        "q=1; wait=5",
        "return=minimal",
    ],
)
def test_what_is_no_wait_is_as_if_it_were_not_there(header: str) -> None:
    assert wait_seconds(header) is None


@pytest.mark.parametrize("piece", ["; ", " ", ",", "a=", '"', "a;", 'a="\\"', "a ", "\t;"])
def test_no_header_takes_long_to_read(piece: str) -> None:
    assert wait_seconds(piece * 100_000 + "wait=5\x00") is None
