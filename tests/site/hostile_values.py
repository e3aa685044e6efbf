"""The corpus of hostile values: bytes that break parsers, and bytes that a careless shell would obey."""

import os
import re
from dataclasses import dataclass

_LONG_PATH = b"/a" * 2048
_CANARY = re.compile(r"home-canary-\d+")

PLAIN: tuple[bytes, ...] = (
    *(
        b"",
        b" ",
        b"   ",
        b"\t",
        b"\xc2\xa0",
        b"\xe2\x80\x8b",
        b"\0",
        b"a\0b",
        b"%00",
        b"\n",
        b"a\nb",
        b"a\r\nX-Injected: 1",
        b"\x1b[31m\a\b",
    ),
    *(b"a%0d%0aX-Injected:%201", b"\xe5\x98\x8a\xe5\x98\x8dX-Injected: 1", b"\x7f", b"\x85", b"\r\nFLUSHALL\r\n", b"*1\r\n$4\r\nPING\r\n"),
    *(b"'", b'"', b"`", b"\\", b"'\"'\"'", b"a\\", b"<", b"(", b"a;b", b"a&b=c", b"a=b", b"a+b", b"#", b"a|b", b"!", b"*", b"?[a-z]{a,b}"),
    *(b"\xff\xfe", b"\xc3(", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xef\xbb\xbfx", b"\xef\xbf\xbf"),
    *(
        "é".encode(),
        "e\u0301".encode(),
        "\u202etxt.exe".encode(),
        "🦀".encode(),
        "\u2028".encode(),
        "日本語".encode(),
        b"\\ud800",
        b"\\u0000",
    ),
    *(
        b".",
        b"..",
        b"../../../../etc/passwd",
        b"....//",
        b"%2e%2e%2f",
        b"~",
        b"~root",
        b"//etc//passwd",
        b"/dev/null",
        b"/proc/self/environ",
    ),
    *(b"-", b"--", b"-rf", b"--help", b"--version", b"-x", b"--no-preserve-root", b"--files0-from=/etc/passwd", b"@/etc/passwd", b"a -- b"),
    *(
        b"$HOME",
        b"${PATH}",
        b"$IFS",
        b"$$",
        b"$0",
        b"%s%n%d%x",
        b"%(name)s",
        b"{0.__class__}",
        b"{{7*7}}",
        b"%",
        b"%zz",
        b"%u0041",
        b"\\x41",
    ),
    *(
        b"0",
        b"-1",
        b"1",
        b"00",
        b"+1",
        b" 1",
        b"1 ",
        b"1.5",
        b"1e3",
        b"0x10",
        b"1_000",
        str(10**30).encode(),
        b"9" * 5000,
        b"-" + b"9" * 30,
    ),
    *(b"NaN", b"Infinity", b"-Infinity", b"null", b"None", b"true", b"TRUE ", b"undefined", "١٢".encode(), "²".encode(), "\uff11".encode()),
    *(
        b",",
        b",,,",
        b"1,2;3",
        b"1,," + b"2",
        b"1_[1-4]",
        b"1_[9-1]",
        b"1_[0-99999999999]",
        b"1+",
        b"1+0",
        b"1," * 300 + b"1",
        b"1:2:3",
        b"9999-99-99",
    ),
    *(b"0000-00-00T00:00:00", b"2026-11-22T10:00:00", b"2026-11-22T25:61:61", b"now", b"00:00:00:00", b"0-24:00"),
    *(
        b"{}",
        b"[]",
        b'{"A": 1}',
        b'{"A": NaN}',
        b'{"A": 1e999}',
        b'{"A": "\\ud800"}',
        b'{"A": "\\u0000"}',
        b'{"A": "\\u0000", "A": "x"}',
        b"[",
    ),
    *(b"[" * 3000, b'{"A":' * 500 + b"1" + b"}" * 500, b'{"A": ' + b"9" * 4000 + b"}", b'{"A B": ""}', b'{"LD_PRELOAD": "/nowhere"}'),
    *(b"' OR 1=1 --", b"<script>alert(1)</script>", b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>", b"${jndi:ldap://x}"),
    *(_LONG_PATH, b"a" * 4096, b"a" * 256, "é".encode() * 1000),
)
# GET requests cannot carry these: the server takes 8190 bytes of a request line.
HUGE: tuple[bytes, ...] = (b"a" * 65536, b"/a" * 32768, b"[" * 65536, b"9" * 65536, b"\xff" * 65536, b"\n" * 65536, b"'" * 65536)

# {} is where the path of the canary goes: the file exists when somebody has run the command.
INJECTIONS: tuple[str, ...] = (
    *("$(touch {})", "`touch {}`", "; touch {}", "| touch {}", "& touch {}", "&& touch {}", "|| touch {}", "\ntouch {}\n", "x\ntouch {} #"),
    *("'; touch {}; #", '"; touch {}; #', "'\ntouch {}\n#", "'$(touch {})'", '"$(touch {})"', "'`touch {}`'", "\\'; touch {}; #"),
    *("touch${{IFS}}{}", ";touch${{IFS}}{};", "$(touch${{IFS}}{})", "`touch${{IFS}}{}`", "';touch${{IFS}}{};#", "|touch${{IFS}}{}"),
    *("> {}", ">{}", ">>{}", "<(touch {})", "$(>{})", "{{touch,{}}}", "${{x:=$(touch {})}}", "a[$(touch {})]", "$'\\n'\ntouch {}"),
    *(
        "a.tar.gz; touch {}",
        "1; touch {}",
        "1`touch {}`",
        "1$(touch {})",
        "a:$(touch {})",
        '{{"A": "$(touch {})"}}',
        '{{"A": "\'; touch {}; #"}}',
    ),
    *('{{"A": "x", "B": "`touch {}`"}}', '{{"A": "x\n$(touch {})"}}', '{{"$(touch {})": "x"}}', "--output={}", "-o{}"),
    *("--use-compress-program=touch {}", "--wrap=touch {}"),
)

# Places where a careless program might put a value.
CARELESS: tuple[str, ...] = (
    *("{}", ": {}", "cat x{}", ": '{}'", ': "{}"', ": $(( {} ))", "sort '{}' </dev/null", "tar -cf /dev/null '{}' /dev/null"),
    "sbatch --output=/dev/null '{}'",
)


@dataclass(frozen=True)
class Value:
    """A hostile value; `canary` is the number of the file that proves it was run."""

    text: bytes
    canary: str = ""


class Canaries:
    """Files that exist when a command of the attacker's was run: in a folder that all may write to, or below somebody's home."""

    def __init__(self, folder: str, *, home: str) -> None:
        self._folder = folder
        self._home = home
        self._number = 0

    def value(self, template: str, *, home: bool = False) -> Value:
        """A value with a canary of its own; `home` is for where no slash can be said."""
        self._number += 1
        name = f"home-canary-{self._number}" if home else f"canary-{self._number}"
        return Value(template.format(name if home else f"{self._folder}/{name}").encode(), name)

    def found(self) -> list[str]:
        """The canaries that exist."""
        everywhere = ((folder, name) for folder, folders, files in os.walk(self._home) for name in (*folders, *files))
        at_home = [f"{folder}/{name}" for folder, name in everywhere if _CANARY.fullmatch(name)]
        return [*at_home, *(entry.path for entry in os.scandir(self._folder))]
