"""How a pod's routers meet their clients: who may ask, and by which protocol.

Knows: the options of `xpod up` for that, and what routers would refuse.
Does not know: how routers carry it out (see `xpod.router`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from xpod.cli.errors import BAD_USAGE, CliError

KEYS_FILE = "api-keys.json"
"""In the data directory: where `xpod key` keeps keys, and `xpod up` finds them."""

KeysFileOption = Annotated[
    Path | None,
    Option(
        "--api-keys-file",
        envvar="XPOD_API_KEYS_FILE",
        metavar="FILE",
        show_default=False,
        help=f"Clients need a key of this file, which xpod key makes (default: {KEYS_FILE} in --data, if it is there).",
    ),
]
InsecureOption = Annotated[
    bool,
    Option("--insecure", envvar="XPOD_INSECURE", help="Let other machines ask without a key (with --host)."),
]
CertificateOption = Annotated[
    Path | None,
    Option(
        "--tls-cert",
        envvar="XPOD_TLS_CERT",
        metavar="FILE",
        show_default=False,
        help="Routers speak HTTPS, with this certificate (PEM, with its chain); a renewed one is read by itself.",
    ),
]
KeyOption = Annotated[
    Path | None,
    Option("--tls-key", envvar="XPOD_TLS_KEY", metavar="FILE", show_default=False, help="Its key (PEM)."),
]


@dataclass(frozen=True, slots=True)
class HttpFace:
    """What was asked for."""

    keys_file: Path | None = None
    insecure: bool = False
    certificate: Path | None = None
    key: Path | None = None

    @property
    def https(self) -> bool:
        return self.certificate is not None

    def found(self, data: Path) -> HttpFace:
        """With the keys of the data directory, where there are any and none were named."""
        usual = data / KEYS_FILE
        file = self.keys_file or (usual if usual.exists() else None)
        return HttpFace(file, self.insecure, self.certificate, self.key)

    def check(self, host: str, environ: Mapping[str, str]) -> None:
        """Raises CliError for what routers would refuse at their start."""
        from xpod_runtime.addresses import is_loopback

        if (self.certificate is None) != (self.key is None):
            raise CliError("--tls-cert and --tls-key belong together", BAD_USAGE)
        for flag, path in (
            ("--tls-cert", self.certificate),
            ("--tls-key", self.key),
            ("--api-keys-file", self.keys_file),
        ):
            if path is not None and not path.expanduser().is_file():
                raise CliError(f"{flag}: {path} is not a file", BAD_USAGE)
        closed = self.keys_file is not None or bool(environ.get("XPOD_API_KEY", "").strip(" ,"))
        if not (closed or self.insecure or is_loopback(host)):
            raise CliError(
                f"--host: {host} is open to other machines, and there is no API key: xpod key add NAME, or "
                "XPOD_API_KEY; --insecure where it may be open",
                BAD_USAGE,
            )

    def variables(self) -> dict[str, str]:
        """For the routers."""
        told = {
            "XPOD_API_KEYS_FILE": self.keys_file,
            "XPOD_TLS_CERT": self.certificate,
            "XPOD_TLS_KEY": self.key,
        }
        paths = {name: str(path.expanduser().resolve()) for name, path in told.items() if path is not None}
        return {**paths, "XPOD_INSECURE": "true" if self.insecure else "false"}
