"""How a node listens and waits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrestore.errors import ConfigError
from medrestore.options.declare import OptionInfo, option
from medrestore.options.parse import parse_memory

_AE_TITLE = 16
# Seconds, eleven days: waiting for a process takes no more than 24.
_LONGEST = 1_000_000


@dataclass(frozen=True)
class NodeOptions:
    """How a node listens and waits.

    Attributes:
        ae_title: Its name among DICOM nodes, 1 to 16 ASCII characters.
        port: Where it listens; 0 for any free port.
        host: Address that it listens on.
        spool: Folder for files, results and ledger.
        quota: Largest size of the spool, in bytes or as in ``"20GiB"``; beyond it, images are refused.
        rest: Seconds without an image after which a series is complete.
        patience: Seconds after which that also holds for a transfer that was cut off; no shorter than `rest`.
        retry: Seconds before a result is sent again; doubled each time, up to an hour.
        attempts: How often it is sent before the node gives up until it is started again.
        time_limit: Seconds that restoring a series may take.
        tls: Certificate, key and the authority that peers must have theirs from; None for no TLS.

    Raises:
        ConfigError: A value is out of range.
    """

    ae_title: str = option("MEDRESTORE", OptionInfo("Own AE title."))
    port: int = option(11112, OptionInfo("Port to listen on."))
    host: str = option("0.0.0.0", OptionInfo("Address to listen on."))
    spool: Path = option(Path("spool"), OptionInfo("Files and ledger.", metavar="DIR"))
    quota: int | str = option("20GiB", OptionInfo("Largest size of the spool.", metavar="AMOUNT"))
    rest: float = option(10.0, OptionInfo("Quiet after which a series is complete.", metavar="S"))
    patience: float = option(900.0, OptionInfo("The same, where the transfer was cut off.", metavar="S"))
    retry: float = 10.0
    attempts: int = 20
    time_limit: float = option(
        3600.0, OptionInfo("Longest time that restoring a series may take.", metavar="S")
    )
    tls: tuple[Path, Path, Path] | None = option(
        None, OptionInfo("Use TLS; callers need a certificate of CA.", metavar="CERT KEY CA")
    )

    def __post_init__(self) -> None:
        """Check what DICOM and sockets bound."""
        check_ae_title(self.ae_title)
        check_port(self.port, least=0)
        object.__setattr__(self, "quota", parse_memory(self.quota, "quota"))
        for name in ("rest", "patience", "retry", "time_limit", "attempts"):
            value = getattr(self, name)
            if not 0 < value <= _LONGEST:  # NaN is not
                raise ConfigError(f"{name} of a node is {value:g}, expected more than 0, up to {_LONGEST}")

    @property
    def quota_bytes(self) -> int:
        """Largest size of the spool."""
        return parse_memory(self.quota)


def check_ae_title(title: str) -> None:
    """Check a title.

    Raises:
        ConfigError: It is not one.
    """
    plain = title.isascii() and title.isprintable() and "\\" not in title
    if not 0 < len(title) <= _AE_TITLE or title != title.strip() or not plain:
        raise ConfigError(
            f"AE title {title!r}, expected 1 to {_AE_TITLE} ASCII characters without a backslash"
        )


def check_port(port: int, least: int = 1) -> None:
    """Check the number of a port.

    Raises:
        ConfigError: It is not one.
    """
    if not least <= port < 1 << 16:
        raise ConfigError(f"port {port}, expected {least} to 65535")
