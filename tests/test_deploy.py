"""What is deployed with the server must mean options that it has."""

from __future__ import annotations

import asyncio
import configparser
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from streaming_asr import settings
from streaming_asr.cli import _parser
from tests.test_server import run, serving

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "deploy" / "server.toml"


def test_the_configuration_is_one(tmp_path: Path) -> None:
    parser, serve = _parser()
    assert settings.parse(parser, serve, ["serve", "--config", str(CONFIG)], {}).host == "127.0.0.1"
    everything = tmp_path / "server.toml"
    assignments = re.sub(r"^# (?=[\w-]+ = )", "", CONFIG.read_text(), flags=re.MULTILINE)
    everything.write_text(assignments.replace('host = "127.0.0.1"\n', ""))
    options = settings.parse(parser, serve, ["serve", "--config", str(everything)], {})
    assert (options.host, str(options.tls_key)) == ("0.0.0.0", "/etc/streaming-asr/key.pem")


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "docs/deployment.md"])
def test_every_variable_is_an_option(name: str) -> None:
    _, serve = _parser()
    known = {settings.PREFIX + action.dest.upper() for action in serve._actions}
    used = set(re.findall(r"STREAMING_ASR_[A-Z_]+", (ROOT / name).read_text()))
    assert used
    assert used <= known


@pytest.mark.parametrize("certificate_variable", [None, "", "x"])
def test_the_health_check_finds_the_server_where_the_variables_say(
    certificate_variable: str | None, tmp_path: Path
) -> None:
    """The Dockerfile's own command, as Docker would read it."""
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    [check] = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", dockerfile, re.MULTILINE)
    program, *arguments = json.loads(check)
    assert program == "python"
    options: dict[str, Any] = {}
    if certificate_variable:
        certificate = tmp_path / "server.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
        options["tls_cert"] = certificate

    async def test() -> None:
        async with serving(**options) as server:
            variables = {"STREAMING_ASR_PORT": server.url.rpartition(":")[2]}
            if certificate_variable is not None:
                variables["STREAMING_ASR_TLS_CERT"] = certificate_variable
            assert await is_healthy(variables)
        assert not await is_healthy(variables)

    async def is_healthy(variables: dict[str, str]) -> bool:
        command = [sys.executable, *arguments]
        return not (
            await asyncio.to_thread(subprocess.run, command, env=variables, stderr=subprocess.DEVNULL)
        ).returncode

    run(test)


def test_the_unit_starts_the_server_with_that_file() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    unit.read(ROOT / "deploy" / "streaming-asr.service")
    parser, _ = _parser()
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert program.endswith("/streaming-asr")
    assert parser.parse_args(arguments).config == Path("/etc/streaming-asr") / CONFIG.name
