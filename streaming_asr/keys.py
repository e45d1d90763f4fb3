"""Owns API keys: how they are made, the file that keeps their hashes, and what each key has used of its limits.

A key is 256 random bits, so a plain SHA-256 of it cannot be searched through and needs no salt. The file never holds
a key, nor does any message of this module. Knows nothing of sockets or protocols; the clock is injected.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import secrets
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .errors import ClientError, InputError
from .files import replacing
from .limits import Budget

PREFIX = "sasr_"  # so that secret scanners and people know one when they see it
MAX_FILE_BYTES = 16 << 20
MAX_NAME_CHARACTERS = 100


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of one key; `None` sets no limit."""

    name: str
    sha256: str  # of the key's UTF-8 bytes, in hexadecimal digits
    created: str  # ISO 8601
    max_sessions: int | None = None  # at once
    audio_seconds_per_hour: float | None = None  # a budget of one hour's worth that fills up steadily

    def __post_init__(self) -> None:
        if not (self.name.isprintable() and 1 <= len(self.name) <= MAX_NAME_CHARACTERS):
            raise ValueError(f"name must be 1 to {MAX_NAME_CHARACTERS} printable characters")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError("sha256 must be 64 lower-case hexadecimal digits")
        for limit in (self.max_sessions, self.audio_seconds_per_hour):
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError("a limit must be a number above 0")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key]


def read_keys(path: Path) -> dict[str, Key]:
    """All keys of a file, by name. Raises `InputError`, naming the file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise InputError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB: no key file")
        keys = msgspec.json.decode(content, type=_File).keys
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InputError(f"{path} is not a key file: {error}") from error
    by_name = {key.name: key for key in keys}
    if len(by_name) != len(keys) or len({key.sha256 for key in keys}) != len(keys):
        raise InputError(f"{path} is not a key file: two keys share a name or a hash")
    return by_name


def write_keys(path: Path, keys: dict[str, Key]) -> None:
    """Replaces the file at once, so that no server reads half of it.

    A new one only its owner may read; whoever could read the old one, as a server of another user, goes on to.
    """
    try:
        with replacing(path, 0o600, is_synced=True) as file:
            file.write(msgspec.json.format(msgspec.json.encode(_File(list(keys.values()))), indent=2) + b"\n")
            if path.exists():
                before = path.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def add_key(path: Path, name: str, max_sessions: int | None = None, audio_seconds_per_hour: float | None = None) -> str:
    """Makes a key and adds its hash to the file, which need not exist yet. Returns the key, which is kept nowhere."""
    keys = read_keys(path) if path.exists() else {}
    if name in keys:
        raise InputError(f"{path} has a key named {name!r} already; revoke it, or choose another name")
    text = PREFIX + secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        keys[name] = Key(name, _hash(text), created, max_sessions, audio_seconds_per_hour)
    except ValueError as error:
        raise InputError(str(error)) from error
    write_keys(path, keys)
    return text


def revoke_key(path: Path, name: str) -> None:
    """Removes a key's hash from the file. Raises `InputError` if it is not there."""
    keys = read_keys(path)
    if name not in keys:
        raise InputError(f"{path} has no key named {name!r}; it has {', '.join(map(repr, keys)) or 'none'}")
    del keys[name]
    write_keys(path, keys)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


class _Usage:
    """What the bearer of one key uses now."""

    def __init__(self, key: Key, clock: Callable[[], float]) -> None:
        self.key = key
        per_hour = key.audio_seconds_per_hour
        self.audio = None if per_hour is None else Budget(per_hour / 3600, per_hour, clock)


class KeyRing:
    """The keys that are good now, and what they have used. Use is counted from the server's start."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._stamp: tuple[int, int, int] | None = None
        self._usage: dict[str, _Usage] = {}  # by hash
        self._num_sessions: Counter[str] = Counter()  # by hash, also of keys that are no longer there
        self.reload()

    def __len__(self) -> int:
        return len(self._usage)

    def has_changed(self) -> bool:
        """Whether the file is another than the one read last."""
        return self._read_stamp() != self._stamp

    def reload(self) -> None:
        """Reads the file anew. Raises `InputError` if it cannot be used; the keys stay as they were."""
        self._stamp = self._read_stamp()
        usage: dict[str, _Usage] = {}
        for key in read_keys(self._path).values():
            before = self._usage.get(key.sha256)
            usage[key.sha256] = before if before is not None and before.key == key else _Usage(key, self._clock)
        self._usage = usage

    def find(self, candidates: Iterable[str]) -> Key | None:
        """The key that one of these is. Takes as long whichever it is, and whether it is one."""
        found = None
        for candidate in candidates:
            digest = _hash(candidate)
            for usage in self._usage.values():
                if hmac.compare_digest(digest, usage.key.sha256):
                    found = usage.key
        return found

    def check(self, key: Key) -> None:
        """Raises `ClientError` if this key may open no further session now."""
        usage = self._usage.get(key.sha256)
        if usage is None:
            raise key_revoked()
        if key.max_sessions is not None and self._num_sessions[key.sha256] >= key.max_sessions:
            raise ClientError("key_sessions", f"this key may have {key.max_sessions} sessions at once", 1013)
        if usage.audio is not None and usage.audio.wait_seconds > 0:
            raise self._no_audio_left(usage.key)

    def open_session(self, key: Key) -> None:
        """Counts a session; `check` comes before, `close_session` after."""
        self._num_sessions[key.sha256] += 1

    def spend(self, key: Key, audio_seconds: float) -> None:
        """Takes audio from the key's budget. Raises `ClientError` when that is used up, or the key no longer good."""
        usage = self._usage.get(key.sha256)
        if usage is None:
            raise key_revoked()
        if usage.audio is None:
            return
        usage.audio.spend(audio_seconds)
        if usage.audio.wait_seconds > 0:
            raise self._no_audio_left(usage.key)

    def close_session(self, key: Key) -> None:
        """One that `open_session` counted is over."""
        self._num_sessions[key.sha256] -= 1

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    @staticmethod
    def _no_audio_left(key: Key) -> ClientError:
        words = f"this key's budget of {key.audio_seconds_per_hour:.12g} s of audio an hour is used up"
        return ClientError("key_audio", words, 1013)


def key_revoked() -> ClientError:
    """What sessions are told whose key is gone."""
    return ClientError("key_revoked", "this key is no longer good", 1008)
