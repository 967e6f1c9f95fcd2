"""TLS: the files that an ingress proves itself with, their renewal, and how a client on its host knows it by them."""

import contextlib
import hashlib
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import EndpointError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the files of a server that goes on


@dataclass(frozen=True, slots=True)
class Tls:
    """The files that a server proves itself with: absolute paths, on every host that has an ingress."""

    certificate: str
    key: str

    def check(self) -> "Tls":
        """Returns itself.

        Raises:
            EndpointError: a file cannot be read, or they do not belong together.
        """
        for kind, path in (("certificate", self.certificate), ("key", self.key)):
            if not os.path.isabs(path) or not os.path.isfile(path) or not os.access(path, os.R_OK):
                raise EndpointError(
                    f"The TLS {kind} {path} cannot be read; give the whole path of a PEM file that we may read."
                )
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise EndpointError(
                f"The TLS certificate {self.certificate} and the key {self.key} cannot be used ({error}). "
                "Both have to be in PEM form, without a password, and belong together."
            ) from error
        return self


class Renewal:
    """Looks whether a server's files were renewed while it goes on.

    Files that cannot be used, or do not belong together, change nothing: a certificate and its key are two files, and
    one of them is renewed before the other. Thread-safe.

    Args:
        tls: the files, as the server has them already.
        now: seconds, monotonic.
    """

    def __init__(self, tls: Tls, now: Callable[[], float] = time.monotonic) -> None:
        self._tls = tls
        self._now = now
        self._lock = threading.Lock()
        self._decided = _mark(self._read())  # on what was found last
        self._next_look = 0.0

    def look(self, take: Callable[[bytes, bytes], None]) -> None:
        """Has `take` called with the contents of certificate and key if they were renewed, at most once a second.

        Where `take` raises an `OSError` it is called again at another look.
        """
        with self._lock:
            if self._now() < self._next_look:
                return
            self._next_look = self._now() + LOOK_SECONDS
            found = self._read()
            mark = _mark(found)
            if found is None or mark == self._decided:
                return
            fault = self._fault()
            if _mark(self._read()) != mark:  # it is being written: what was checked is not what was read
                return
            if fault:
                logger.warning("A renewed certificate is not taken: %s", fault)
            else:
                try:
                    take(*found)
                except OSError as error:
                    logger.warning("A renewed certificate is not taken yet: %s", error)
                    return
            self._decided = mark

    def _fault(self) -> str:
        try:
            self._tls.check()
        except EndpointError as error:
            return str(error)
        return ""

    def _read(self) -> tuple[bytes, bytes] | None:
        try:
            return Path(self._tls.certificate).read_bytes(), Path(self._tls.key).read_bytes()
        except OSError:  # it is being replaced
            return None


def _mark(pair: tuple[bytes, bytes] | None) -> bytes:
    return b"" if pair is None else b"".join(hashlib.sha256(content).digest() for content in pair)


def trust(authorities: str | Path) -> ssl.SSLContext:
    """Returns what a client trusts that knows the authorities in a PEM file, and no others.

    Raises:
        EndpointError: the file is not there, or is none.
    """
    try:
        return ssl.create_default_context(cafile=str(authorities))
    except (OSError, ssl.SSLError) as error:
        raise EndpointError(f"The file of authorities {authorities} cannot be read as PEM ({error}).") from error


def pinned(certificate: str) -> ssl.SSLContext:
    """Returns what a client on the server's own host trusts: the server's certificate itself, whatever its names.

    Each connection is begun with the file as it is then, for the server may have been given another one meanwhile.

    Raises:
        EndpointError: the file is gone, or is none.
    """
    context = _Pinned(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is this very certificate, and it may have no name for 127.0.0.1
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except (OSError, ssl.SSLError) as error:
        raise EndpointError(f"The endpoint's TLS certificate {certificate} cannot be read ({error}).") from error
    context.file = certificate
    return context


class _Pinned(ssl.SSLContext):
    """Trusts the certificate in a file, and those that were in it before."""

    file: str

    def wrap_socket(self, *given: Any, **named: Any) -> ssl.SSLSocket:
        with contextlib.suppress(OSError):  # it is being renewed; `SSLError` is one
            self.load_verify_locations(self.file)
        return super().wrap_socket(*given, **named)


def _no_password() -> str:
    raise ValueError("the key has a password")
