"""``python -m tests.audit [--advisories DIR]``: known vulnerabilities of all that the server and the client run with.

pip-audit asks the packages' registry; with ``--advisories`` a copy of PyPA's advisory database is asked instead, its
folder ``vulns``: one folder a package, files in the OSV format. A known vulnerability is printed and fails, but for
those that are `ACCEPTED`. A package that the source of advisories could not be asked about is printed as
``not audited``: no failure, since nothing was found, and no clean bill either.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOTS = ("streaming-asr[containers]", "streaming-asr-client")
TIMEOUT_SECONDS = 300.0
# Known and harmless here, with the reason: printed each time, no failure.
ACCEPTED = {
    "CVE-2026-59890": "is about packing source distributions on macOS; torch 2.11 takes no release with the fix"
}


def installed_closure(roots: Iterable[str]) -> dict[str, str]:
    """Names and public versions of all that the roots need on this system, without the roots themselves."""
    seen: set[tuple[str, str]] = set()
    versions: dict[str, str] = {}
    waiting = [Requirement(root) for root in roots]
    ours = {canonicalize_name(root.name) for root in waiting}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                distribution = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                break  # an extra's that is not installed here
            if name not in ours:
                versions[name] = Version(distribution.version).public
            for needed in map(Requirement, distribution.requires or ()):
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return dict(sorted(versions.items()))


def judge(report: str, complaints: str) -> tuple[int, list[str]]:
    """The exit code and what to print, from pip-audit's JSON (empty if it gave up) and from what else it said.

    pip-audit's own exit code cannot tell: it is 0 with "No known vulnerabilities found" when the source knew no package
    at all, and 1 both for a vulnerability and for a source that does not answer.
    """
    if not report.strip():
        reason = (complaints.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return 0, [f"not audited: {reason}"]
    packages = json.loads(report)["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    asked = [package for package in packages if "vulns" in package]
    if not asked:
        return 0, [
            f"not audited: no source of advisories was reached; what answers knows none of {len(skipped)} packages"
        ]
    findings = [
        finding(package["name"], package["version"], found, ", ".join(found["fix_versions"]) or "no version")
        for package in asked
        for found in package["vulns"]
    ]
    lines = [line for _, line in findings]
    lines += [f"not audited: {package['name']}: {package['skip_reason']}" for package in skipped]
    lines.append(f"{len(asked)} packages audited, {sum(bool(package['vulns']) for package in asked)} with advisories")
    return int(any(fails for fails, _ in findings)), lines


def finding(name: str, version: str, advisory: Mapping[str, Any], fixed: str = "") -> tuple[bool, str]:
    """Whether an advisory that applies is a failure (an `ACCEPTED` one, by any of its names, is none), and its line."""
    known = {advisory["id"], *advisory.get("aliases", ())} & ACCEPTED.keys()
    line = f"{'accepted' if known else 'vulnerable'}: {name} {version}: {advisory['id']}"
    line += f", fixed in {fixed}" if fixed else ""
    return not known, line + "".join(f" ({ACCEPTED[each]})" for each in sorted(known))


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Whether an ``affected`` entry of an advisory (OSV schema 1.6) covers a version."""
    if version in affected.get("versions", ()):
        return True
    ranges = [each["events"] for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM"]
    return any(_is_within(Version(version), events) for events in ranges)


def _is_within(version: Version, events: Sequence[Mapping[str, str]]) -> bool:
    inside = False
    for event in events:
        match event:
            case {"introduced": first}:
                inside |= version >= _release(first)
            case {"fixed": fixed}:
                inside &= version < _release(fixed)
            case {"last_affected": last}:
                inside &= version <= _release(last)
    return inside


def _release(written: str) -> Version:
    """Advisories name builds as well, in spellings of their own ("2.6.0-cu124"): the release is what counts."""
    try:
        return Version(written)
    except InvalidVersion:
        return Version(written.partition("-")[0])


def look_up(folder: Path, versions: Mapping[str, str]) -> tuple[int, list[str]]:
    """The exit code and what to print, from a copy of an advisory database."""
    findings, known = [], 0
    for path in sorted(folder.glob("*/*.yaml")):
        name = canonicalize_name(path.parent.name)
        if name not in versions:
            continue
        advisory = yaml.safe_load(path.read_text(encoding="utf-8"))
        known += 1
        if "withdrawn" not in advisory and any(is_affected(versions[name], each) for each in advisory["affected"]):
            findings.append(finding(name, versions[name], advisory))
    lines = [line for _, line in findings]
    lines.append(f"{len(versions)} packages looked up, {known} advisories about them, {len(findings)} apply")
    return int(any(fails for fails, _ in findings)), lines


def main(arguments: Sequence[str] = ()) -> int:
    """The command; 1 if anything is vulnerable, 2 if there is nothing to ask as it was said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--advisories", type=Path, metavar="DIR", help="a copy of the database, its folder vulns")
    advisories: Path | None = parser.parse_args(arguments).advisories
    versions = installed_closure(ROOTS)
    if advisories is not None:
        if not any(advisories.glob("*/*.yaml")):
            print(f"{advisories} holds no advisories", file=sys.stderr)
            return 2
        code, lines = look_up(advisories, versions)
        print("\n".join(lines), flush=True)
        return code
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
        command = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json"]
        command += ["--no-deps", "--disable-pip", "--requirement", str(pinned)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            print(f"not audited: no answer within {TIMEOUT_SECONDS:g} s", flush=True)
            return 0
    if done.returncode not in (0, 1) or "No module named pip_audit" in done.stderr:
        print(done.stderr, end="", file=sys.stderr)
        return 2
    code, lines = judge(done.stdout, done.stderr)
    print("\n".join(lines), flush=True)
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
