"""What tests of TLS share: an authority that nobody knows, and what a server shows of itself."""

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.access.tls import Tls


class Authority:
    """A certificate authority that nobody knows, with one server's certificate."""

    def __init__(self, directory: Path) -> None:
        self._name = "an authority of this test"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = directory / "authority.pem"
        root = self._signed(self._name, self._key.public_key(), is_authority=True)
        self.certificate.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        self.tls = Tls(str(directory / "server.pem"), str(directory / "server.key"))
        self.write(*self.issue())

    def issue(self) -> tuple[bytes, bytes]:
        """Returns another certificate of the server, with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed("localhost", key.public_key(), is_authority=False)
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return signed.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)

    def write(self, certificate: bytes | None = None, key: bytes | None = None) -> None:
        """Writes what is given into the server's files."""
        for path, content in ((self.tls.certificate, certificate), (self.tls.key, key)):
            if content is not None:
                Path(path).write_bytes(content)

    def _signed(self, subject: str, key: Any, *, is_authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def shown(port: int) -> bytes:
    """Returns the certificate that a server on this host shows to a new connection, in PEM form."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10)) as connection:
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der).encode()
