"""The settings page says what the settings are."""

import importlib.util
import re

import yaml

from schemas.settings import Settings
from tests.documents.sections import ROOT


def _generator():
    spec = importlib.util.spec_from_file_location("generate_settings", ROOT / "docs" / "generate_settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_is_up_to_date() -> None:
    generator = _generator()
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run: python docs/generate_settings.py"


def test_the_example_on_the_settings_page_is_valid() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", _generator().HEAD, re.DOTALL)
    assert Settings.model_validate(yaml.safe_load(example)).systems[0].name == "cluster"


def test_every_setting_is_described() -> None:
    assert not [line for line in _generator().page().splitlines() if line.endswith("|  |")]
