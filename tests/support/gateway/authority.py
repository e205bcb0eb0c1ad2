"""A private authority, and the files of a gateway's and a crawler's certificates that it issued."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.folder = folder
        self.file = folder / "authority.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str = "gateway", *, valid_for: timedelta = timedelta(days=90)) -> tuple[Path, Path]:
        """Write a certificate for 127.0.0.1 and localhost; returns its file and that of its key."""
        now = datetime.now(UTC)
        issued = self._ca.issue_cert(
            "127.0.0.1", "localhost", not_before=now - timedelta(days=1000), not_after=now + valid_for
        )
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        key.chmod(0o600)
        return certificate, key

    def trusting(self, client: str | None = None) -> ssl.SSLContext:
        """A crawler's context, which trusts this authority; *client* names the certificate that it shows."""
        context = ssl.create_default_context(cafile=self.file)
        if client is not None:
            context.load_cert_chain(*self.issue(client))
        return context
