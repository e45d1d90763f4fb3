"""A vulnerability that was found, a source that could not be asked and a clean bill are three different things."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import audit

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
        ["vulnerable: numpy 1.26.0: PYSEC-1, fixed in 1.26.1", "2 packages audited, 1 with advisories"],
    )


def test_a_vulnerability_fails_beside_packages_that_nobody_knows() -> None:
    code, lines = audit.judge(report(UNKNOWN, VULNERABLE), "")
    assert code == 1
    assert "not audited: torch: Dependency not found" in lines


def test_one_without_a_fixed_version_fails_too() -> None:
    vulnerable = VULNERABLE | {"vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
    assert audit.judge(report(vulnerable), "") == (
        1,
        ["vulnerable: numpy 1.26.0: PYSEC-2, fixed in no version", "1 packages audited, 1 with advisories"],
    )


def test_one_that_is_accepted_is_printed_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-1": "nothing here reads"})
    known = VULNERABLE | {"vulns": [{"id": "PYSEC-1", "fix_versions": ["1.26.1"], "aliases": ["CVE-1"]}]}
    line = "accepted: numpy 1.26.0: PYSEC-1, fixed in 1.26.1 (nothing here reads)"
    assert audit.judge(report(known), "") == (0, [line, "1 packages audited, 1 with advisories"])
    other = {"id": "PYSEC-2", "fix_versions": [], "aliases": ["CVE-2"]}
    code, lines = audit.judge(report(known, VULNERABLE | {"vulns": [other]}), "")
    assert code == 1
    assert lines[:2] == [line, "vulnerable: numpy 1.26.0: PYSEC-2, fixed in no version"]


def test_all_that_were_asked_about_may_be_clean() -> None:
    assert audit.judge(report(CLEAN), "No known vulnerabilities found") == (
        0,
        ["1 packages audited, 0 with advisories"],
    )


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
        (report(CLEAN), 0, 0, "1 packages audited, 0 with advisories"),
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


@pytest.mark.parametrize(
    ("affected", "hit"),
    [
        ({"versions": ["1.2", "1.3"]}, True),
        ({"versions": ["1.2"]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.3"}]}]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.3.1"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.3"}, {"last_affected": "1.3"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.10"}]}]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "1.3-cu12"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "1.2-NA"}]}]}, False),
        (
            {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1"}, {"introduced": "1.2"}]}]},
            True,
        ),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, False),
    ],
)
def test_an_advisory_names_versions_or_ranges_of_them(affected: dict[str, Any], hit: bool) -> None:
    assert audit.is_affected("1.3", affected) is hit


def write_advisory(folder: Path, name: str, advisory_id: str, **more: Any) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    advisory = {"id": advisory_id, "affected": [{"versions": ["2.0"]}], **more}
    (folder / name / f"{advisory_id}.yaml").write_text(json.dumps(advisory))


def test_a_copy_of_the_advisories_can_be_asked(tmp_path: Path) -> None:
    write_advisory(tmp_path, "rich", "PYSEC-1")
    write_advisory(tmp_path, "Jinja2", "PYSEC-2")
    write_advisory(tmp_path, "Jinja2", "PYSEC-3", withdrawn="2024-01-01T00:00:00Z")
    write_advisory(tmp_path, "django", "PYSEC-4")
    assert audit.look_up(tmp_path, {"rich": "1.0", "jinja2": "2.0", "numpy": "2.0"}) == (
        1,
        ["vulnerable: jinja2 2.0: PYSEC-2", "3 packages looked up, 3 advisories about them, 1 apply"],
    )


def test_an_accepted_one_of_a_copy_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-1": "nothing here reads"})
    write_advisory(tmp_path, "rich", "PYSEC-1", aliases=["CVE-1"])
    assert audit.look_up(tmp_path, {"rich": "2.0"}) == (
        0,
        ["accepted: rich 2.0: PYSEC-1 (nothing here reads)", "1 packages looked up, 1 advisories about them, 1 apply"],
    )


def test_a_folder_without_advisories_is_no_clean_bill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--advisories", str(tmp_path)]) == 2
    assert "holds no advisories" in capsys.readouterr().err
    write_advisory(tmp_path, "django", "PYSEC-4")
    assert audit.main(["--advisories", str(tmp_path)]) == 0
    assert "packages looked up, 0 advisories about them, 0 apply" in capsys.readouterr().out
