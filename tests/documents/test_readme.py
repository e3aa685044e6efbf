"""What the README says is so."""

import ast
import os
import re
import subprocess
import sys
import types

import pytest

import api.app  # noqa: F401 (all operations)
from schemas.operation import OPERATIONS
from tests.documents.sections import README, ROOT, code

_ROW = re.compile(r"^\| (GET|POST|PUT|DELETE) \| `([^`]+)` \| `([^`]+)` \| (.+) \| (\w+) \|$", re.MULTILINE)


def test_the_endpoint_table_is_what_is_declared() -> None:
    declared = {
        (operation.route.verb, path, operation.task(), (operation.__doc__ or "").strip().removesuffix("."), operation.route.course.value)
        for operation in OPERATIONS
        for path in (operation.route.path, operation.route.also)
        if path
    }
    assert sorted(_ROW.findall(README.read_text(encoding="utf-8"))) == sorted(declared)


def test_the_worked_example_answers_over_http(tmp_path) -> None:
    (tmp_path / "poem").write_text("so much\ndepends\nupon\n")
    words = [sys.executable, "tests/documents/wc_service.py", code("wc, declaration"), code("wc, performance"), str(tmp_path / "poem")]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counted = {"description": "Success to wc file.", "output": {"lines": 3, "words": 4, "size": 21}}
    expected = [200, counted, 400, "path is an invalid path", "utilities.Wc", "Count the lines, words and bytes of a file."]
    assert ast.literal_eval(done.stdout) == expected


def test_the_test_of_the_worked_example_passes() -> None:
    module = types.ModuleType("example")
    text = code("wc, performance").split("@performs")[0].replace("from schemas.utilities import Counts, Wc", "")
    declaration = code("wc, declaration").split("@operation")[0]
    exec("from pydantic import BaseModel\n" + declaration + text, vars(module))
    test = code("wc, test").replace("from workers.utilities import counts", "")
    exec(test + "\ntest_wc_is_read()\n", vars(module))


@pytest.mark.parametrize(("title", "shown"), [("curl session", '"task_url": "/tasks/'), ("pyfirecrest session", "Job submitted")])
def test_the_shell_sessions_work(site, title, shown) -> None:
    text = code(title).replace(". .site/client.env", f". {site.facts['state']}/client.env")
    done = subprocess.run(["sh", "-euc", text], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown in done.stdout


def test_the_python_session_works(site) -> None:
    script = f'. {site.facts["state"]}/client.env; exec "$0" -c "$1"'
    words = ["sh", "-c", script, sys.executable, code("python session")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fcalice" in done.stdout
    assert "\n114\n" in done.stdout
