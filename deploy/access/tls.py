"""TLS: the files that an ingress proves itself with, and how a client on the same host knows it by them."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from orchestrator.domain.errors import EndpointError


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

    Raises:
        EndpointError: the file is gone, or is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is this very certificate, and it may have no name for 127.0.0.1
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except (OSError, ssl.SSLError) as error:
        raise EndpointError(f"The endpoint's TLS certificate {certificate} cannot be read ({error}).") from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")
