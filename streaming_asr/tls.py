"""Owns the server's TLS: one context whose certificate can be replaced while it serves."""

from __future__ import annotations

import ssl
from pathlib import Path

from .errors import InputError


class ServerTls:
    """Reads certificate and key, PEM files, now and at each `reload`; open connections keep what they began with."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._certificate = certificate
        self._key = key  # None: in the certificate's file
        self.context = self._read(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def reload(self) -> None:
        """Raises `InputError` if the files cannot be used; the server then goes on with what it has."""
        self._read(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # a failed load would leave half of it behind
        self._read(self.context)

    def _read(self, context: ssl.SSLContext) -> ssl.SSLContext:
        names = " and ".join(str(path) for path in (self._certificate, self._key) if path is not None)

        def no_password() -> str:
            raise InputError(f"{names}: the key is encrypted, and there is nobody to ask for its password")

        try:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(self._certificate, self._key, no_password)
        except ssl.SSLError as error:
            words = f"{names}: no certificate and key that fit: {error.reason or error}"
            raise InputError(words) from error
        except OSError as error:
            raise InputError(f"cannot read {names}: {error.strerror}") from error
        return context
