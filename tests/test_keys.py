import hmac
import json
import math
import os
import stat
from pathlib import Path

import pytest

from streaming_asr.errors import ClientError, InputError
from streaming_asr.keys import KeyRing, add_key, read_keys, revoke_key


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def ring(path: Path, clock: Clock | None = None) -> KeyRing:
    return KeyRing(path, clock or Clock())


def test_the_file_keeps_hashes_only_and_for_its_owner_only(path: Path) -> None:
    text = add_key(path, "anna", max_sessions=2)
    assert text.startswith("sasr_")
    assert len(text) == len("sasr_") + 43  # 256 bits
    assert text.encode() not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["keys.json"]
    [key] = read_keys(path).values()
    assert (key.name, key.max_sessions, key.audio_seconds_per_hour) == ("anna", 2, None)


def test_whoever_could_read_the_file_still_can(path: Path) -> None:
    add_key(path, "anna")
    path.chmod(0o640)  # for a server of the file's group
    before = path.stat()
    add_key(path, "bob")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_keys_are_told_apart_and_revoked(path: Path) -> None:
    anna, berta = add_key(path, "anna"), add_key(path, "berta")
    keys = ring(path)
    for text, name in [(anna, "anna"), (berta, "berta")]:
        found = keys.find(["nonsense", text])
        assert found is not None
        assert found.name == name
    assert keys.find([]) is keys.find(["", "sasr_", anna[:-1], anna + "x", "\udcff\u20ac"]) is None
    before = keys.find([anna])
    assert before is not None
    assert not keys.has_changed()
    revoke_key(path, "anna")
    assert keys.has_changed()
    assert keys.find([anna]) == before  # until it is read
    keys.reload()
    assert keys.find([anna]) is None
    assert keys.find([berta]) is not None
    with pytest.raises(ClientError, match="no longer good"):
        keys.check(before)
    with pytest.raises(ClientError, match="no longer good"):
        keys.spend(before, 0.0)
    keys.close_session(before)  # one that began before


def test_each_key_that_is_offered_is_compared_with_all_in_constant_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["anna", "berta", "carla"]
    offered = [add_key(path, name) for name in names]
    keys = ring(path)
    compared: list[tuple[str, str]] = []
    compare_digest = hmac.compare_digest

    def noting(one: str, other: str) -> bool:
        compared.append((one, other))
        return compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    for text, name in zip(offered, names, strict=True):  # wherever it stands, and if it is none
        compared.clear()
        found = keys.find([text, "nonsense"])
        assert found is not None
        assert found.name == name
        assert len(compared) == 2 * len(names)
    compared.clear()
    assert keys.find(["nonsense"]) is None
    assert len(compared) == len(names)


def test_sessions_are_limited_and_survive_a_reload(path: Path) -> None:
    text = add_key(path, "anna", max_sessions=2)
    keys = ring(path)
    key = keys.find([text])
    assert key is not None
    for _ in range(2):
        keys.check(key)
        keys.open_session(key)
    add_key(path, "berta")
    keys.reload()
    with pytest.raises(ClientError) as caught:
        keys.check(key)
    assert caught.value.code == "key_sessions"
    keys.close_session(key)
    keys.check(key)


def test_a_key_that_comes_back_has_the_sessions_that_it_had(path: Path) -> None:
    text = add_key(path, "anna", max_sessions=1)
    keys, content = ring(path), path.read_bytes()
    key = keys.find([text])
    assert key is not None
    keys.open_session(key)
    revoke_key(path, "anna")
    keys.reload()
    path.write_bytes(content)
    keys.reload()
    with pytest.raises(ClientError, match="1 sessions at once"):
        keys.check(key)
    keys.close_session(key)
    keys.open_session(key)
    with pytest.raises(ClientError, match="1 sessions at once"):
        keys.check(key)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
def test_a_limit_is_a_number_above_0(path: Path, limit: float) -> None:
    with pytest.raises((InputError, ValueError), match="above 0"):
        add_key(path, "anna", audio_seconds_per_hour=limit)


def test_audio_is_a_budget_that_fills_up(path: Path) -> None:
    clock = Clock()
    text = add_key(path, "anna", audio_seconds_per_hour=3_600_000)
    keys = ring(path, clock)
    key = keys.find([text])
    assert key is not None
    keys.spend(key, 3_600_000)
    keys.check(key)
    with pytest.raises(ClientError) as caught:
        keys.spend(key, 10_000)
    assert caught.value.code == "key_audio"
    clock.now += 9
    with pytest.raises(ClientError, match="budget of 3600000 s of audio an hour"):
        keys.check(key)
    clock.now += 2
    keys.check(key)


def test_a_file_that_cannot_be_read_leaves_the_keys_as_they_were(path: Path) -> None:
    text = add_key(path, "anna")
    keys = ring(path)
    path.write_text("{")
    with pytest.raises(InputError):
        keys.reload()
    assert keys.find([text]) is not None
    path.unlink()
    assert keys.has_changed()
    with pytest.raises(InputError, match="No such file"):
        keys.reload()
    assert keys.find([text]) is not None


HASH = "0" * 64
KEY = {"name": "a", "sha256": HASH, "created": ""}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"keys": [{}]}',
        "[" * 100_000,
        "\ud800",
        json.dumps({"keys": [KEY | {"sha256": "A" * 64}]}),
        json.dumps({"keys": [KEY | {"sha256": "0" * 63}]}),
        json.dumps({"keys": [KEY | {"name": ""}]}),
        json.dumps({"keys": [KEY | {"name": "a\nb"}]}),
        json.dumps({"keys": [KEY | {"max_sessions": 0}]}),
        json.dumps({"keys": [KEY | {"max_session": 1}]}),
        json.dumps({"keys": [KEY | {"audio_seconds_per_hour": -1}]}),
        json.dumps({"keys": [KEY, KEY | {"name": "b"}]}),
        json.dumps({"keys": [KEY, KEY | {"sha256": "1" * 64}]}),
    ],
)
def test_a_damaged_file_is_named(path: Path, content: str) -> None:
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(InputError, match=r"keys\.json is not a key file"):
        read_keys(path)


def test_what_cannot_be_done_is_said(path: Path, tmp_path: Path) -> None:
    add_key(path, "anna")
    with pytest.raises(InputError, match="already"):
        add_key(path, "anna")
    with pytest.raises(InputError, match="it has 'anna'"):
        revoke_key(path, "berta")
    with pytest.raises(InputError, match="printable"):
        add_key(path, "a\tb")
    with pytest.raises(InputError, match="above 0"):
        add_key(path, "b", max_sessions=0)
    with pytest.raises(InputError, match="cannot write"):
        add_key(tmp_path / "missing" / "keys.json", "anna")
    assert list(read_keys(path)) == ["anna"]
