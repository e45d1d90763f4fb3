"""A vulnerability that was found, a source that could not be asked and a clean bill are three different things."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import audit
import pytest

CLEAN = {"name": "rich", "version": "15.0.0", "vulns": []}
VULNERABLE = {
    "name": "numpy",
    "version": "1.26.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.26.1"], "aliases": [], "description": "Reads too far."}],
}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found"}


def report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_vulnerability_fails_and_says_what_to_take_instead() -> None:
    assert audit.judge(report(CLEAN, VULNERABLE), "Found 1 known vulnerability") == (
        1,
        ["vulnerable: numpy 1.26.0: PYSEC-1, fixed in 1.26.1", "2 packages audited, 1 vulnerable"],
    )


def test_a_vulnerability_fails_beside_packages_that_nobody_knows() -> None:
    code, lines = audit.judge(report(UNKNOWN, VULNERABLE), "")
    assert code == 1
    assert "not audited: torch: Dependency not found" in lines


def test_one_without_a_fixed_version_fails_too() -> None:
    vulnerable = VULNERABLE | {"vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
    assert audit.judge(report(vulnerable), "") == (
        1,
        ["vulnerable: numpy 1.26.0: PYSEC-2, fixed in no version", "1 packages audited, 1 vulnerable"],
    )


def test_all_that_were_asked_about_may_be_clean() -> None:
    assert audit.judge(report(CLEAN), "No known vulnerabilities found") == (0, ["1 packages audited, 0 vulnerable"])


def test_a_source_that_knows_nothing_has_not_audited_anything() -> None:
    code, lines = audit.judge(report(UNKNOWN), "No known vulnerabilities found")
    assert code == 0
    assert lines == ["not audited: no source of advisories was reached; what answers knows none of 1 packages"]


@pytest.mark.parametrize("complaints", ["Traceback:\nConnectionError: no route to host\n", ""])
def test_a_source_that_does_not_answer_has_not_audited_anything(complaints: str) -> None:
    code, (line,) = audit.judge("", complaints)
    assert code == 0
    assert line == "not audited: " + ("ConnectionError: no route to host" if complaints else "pip-audit said nothing")


def test_what_is_audited_is_what_the_server_and_the_client_run_with() -> None:
    versions = audit.installed_closure(audit.ROOTS)
    assert {"torch", "websockets", "sounddevice", "jinja2", "av"} <= set(versions)  # jinja2: because of torch
    assert not {"streaming-asr", "streaming-asr-client", "pytest", "pdoc"} & set(versions)
    assert versions["torch"].startswith("2.11.")
    assert "+" not in "".join(versions.values())  # builds of one release: advisories name releases


@pytest.mark.parametrize(
    ("prints", "ends_with", "code", "says"),
    [
        (report(VULNERABLE), 1, 1, "vulnerable: numpy"),
        (report(CLEAN), 0, 0, "1 packages audited, 0 vulnerable"),
        (report(UNKNOWN), 0, 0, "not audited: "),
        ("", 1, 0, "not audited: no route"),
        ("", 2, 2, ""),
    ],
)
def test_the_command_tells_them_apart(
    prints: str,
    ends_with: int,
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "pip_audit.py").write_text(
        "import sys\n"
        "pinned = open(sys.argv[sys.argv.index('--requirement') + 1]).read()\n"
        "assert 'torch==2.11.' in pinned\n"
        f"print({prints!r})\n"
        f"print('no route', file=sys.stderr)\n"
        f"sys.exit({ends_with})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert audit.main() == code
    printed = capfd.readouterr().out
    assert printed.startswith(says)
    assert says or not printed


def test_a_source_that_never_answers_has_not_audited_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pip_audit.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(audit, "TIMEOUT_SECONDS", 0.5)
    assert audit.main() == 0
    assert capfd.readouterr().out == "not audited: no answer within 0.5 s\n"
