"""Import rules hold only what they name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("contract", "field", "beside"),
    [
        ("layers point downwards", "layers", {"training"}),
        ("serving never imports training", "source_modules", {"training", "cli", "errors"}),
    ],
)
def test_every_module_has_its_place_in_the_import_rules(contract: str, field: str, beside: set[str]) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    [rules] = [each for each in contracts if each["name"] == contract]
    named = set(re.findall(r"streaming_asr\.(\w+)", " ".join(rules[field])))
    package = ROOT / "streaming_asr"
    modules = {path.stem for path in package.glob("*.py")}
    modules |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert named == modules - {"__init__"} - beside
