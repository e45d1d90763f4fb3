"""Fixtures that tests in several folders share."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Set before torch is imported. Its threads spin while they wait for each other: beside other work what takes seconds
# would take minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

DEMO = Path(__file__).parents[1] / "examples" / "demo.wav"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SINK = "mic"
NEEDED = {
    "pulseaudio": "pulseaudio",
    "pactl": "pulseaudio-utils",
    "paplay": "pulseaudio-utils",
}  # program: Debian package


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept of model folders, most of which are gone with the test, goes with the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_finish() -> None:
    """Keeps the collector of garbage away from what is imported by now, as the server does.

    To go through those 400,000 objects takes 0.3 s, in which no test can do anything, whatever its deadline.
    """
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class VirtualMicrophone:
    """A microphone made of software: what is played into it, programs started with `environment` record."""

    environment: dict[str, str]
    stderr: Path

    def play(self, wav: Path) -> None:
        """Speaks a WAV file into the microphone; returns when all of it was heard."""
        subprocess.run(["paplay", f"--device={SINK}", str(wav)], env=self.environment, check=True, timeout=60)

    def is_recorded(self) -> bool:
        """Whether a program records from the microphone now."""
        outputs = subprocess.run(
            ["pactl", "list", "short", "source-outputs"],
            env=self.environment,
            check=True,
            timeout=10,
            capture_output=True,
        )
        return bool(outputs.stdout.strip())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's browser without a window. Its microphone plays `DEMO` once when opened, by pages that may.

    For a module only: while it runs, so does Playwright's event loop, and tests cannot start one of their own.
    """
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no browser: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    flags = [
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={DEMO}%noloop",
        "--host-resolver-rules=MAP asr.test 127.0.0.1",  # an address that is not secure
    ]
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program, args=flags) as browser:
        yield browser


def _missing() -> list[str]:
    missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    if not list(Path("/usr/lib").glob("**/alsa-lib/libasound_module_pcm_pulse.so")):
        missing.append("libasound2-plugins")
    if not list(Path("/usr/lib").glob("**/libportaudio.so.2")):
        missing.append("libportaudio2")
    return sorted(set(missing))


@pytest.fixture
def virtual_microphone() -> Iterator[VirtualMicrophone]:
    """A private PulseAudio daemon whose only source is the monitor of a null sink, and an ALSA default that is it.

    Nothing of it touches the sound system, the home or the runtime folder of whoever runs the tests.
    """
    if missing := _missing():
        pytest.skip(f"no virtual microphone: apt-get install {' '.join(missing)}")
    # Not pytest's tmp_path: a Unix socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="mic-") as name:
        home = Path(name)
        socket = home / "pulse.sock"
        (home / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        (home / "default.pa").write_text(
            f"load-module module-native-protocol-unix auth-anonymous=1 socket={socket}\n"
            f"load-module module-null-sink sink_name={SINK} rate=48000 channels=1\n"
            f"set-default-source {SINK}.monitor\n"
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PULSE_", "ALSA_"))}
        environment |= {
            "HOME": name,
            "XDG_RUNTIME_DIR": name,
            "XDG_CONFIG_HOME": name,
            "PULSE_SERVER": f"unix:{socket}",
        }
        log = home / "pulseaudio.log"
        command = ["pulseaudio", "-n", "-F", str(home / "default.pa"), "--daemonize=no", "--system=false"]
        command += ["--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "--high-priority=no"]
        with (
            log.open("wb") as log_file,
            subprocess.Popen(command, env=environment, stdout=log_file, stderr=log_file) as daemon,
        ):
            try:
                _wait_until_it_answers(daemon, environment, log)
                yield VirtualMicrophone(environment, log)
            finally:
                daemon.terminate()
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()


def _wait_until_it_answers(daemon: subprocess.Popen[bytes], environment: dict[str, str], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        sources = subprocess.run(
            ["pactl", "list", "short", "sources"], env=environment, capture_output=True, timeout=10, check=False
        )
        if f"{SINK}.monitor".encode() in sources.stdout:
            return
        if daemon.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"pulseaudio does not answer:\n{log.read_text(errors='replace')}{sources.stderr.decode()}")
        time.sleep(0.05)
