"""What a service makes of an environment: the binaries themselves say, by `--dump-config`."""

import os
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .places import ROOT

BINARIES = Path(os.environ.get("AEGIS_BINARIES", ROOT / "target" / "debug"))


class Refused(Exception):  # noqa: N818
    """The service does not start with this configuration; why."""


@dataclass(frozen=True)
class Effective:
    """A service's whole configuration, secrets masked."""

    service: str
    table: dict[str, Any]

    def get(self, key: str) -> Any:
        """The value of a dotted key; None when it is not set."""
        at: Any = self.table
        for part in key.split("."):
            at = at.get(part) if isinstance(at, dict) else None
        return at

    def listen(self) -> tuple[str, int]:
        """Address and port that it listens on."""
        text = self.get("listen") or self.get("server.listen")
        host, _, port = str(text).rpartition(":")
        return host, int(port)

    def calls(self) -> dict[str, str]:
        """Its clients, by the key of their table: whom they call."""
        return {
            key: value["address"] for key, value in self.table.items() if isinstance(value, dict) and "address" in value
        }

    def drain_seconds(self) -> int:
        """How long after SIGTERM the process may still be there, at most."""
        if self.service == "garak-runner":
            # Its grace, then killing twice, one last call, and the warm process's end: service.rs.
            return int(self.get("drain_grace_seconds")) + 2 * int(self.get("kill_grace_seconds")) + 5 + 2
        key = "shutdown_grace_seconds" if self.service == "gateway" else "server.shutdown_grace_seconds"
        # A second until calls are cut off, two for the last traces.
        return int(self.get(key)) + 3


def effective(service: str, env: Mapping[str, str], secrets: Path) -> Effective:
    """The configuration that the service has with this environment, whose files of /run/secrets lie in
    `secrets`. A variable that nobody knows, or a value out of its range, is refused.
    """
    here = {name: value.replace("/run/secrets", str(secrets)) for name, value in env.items()}
    code, said = _dump(service, tuple(sorted(here.items())))
    if code != 0:
        raise Refused(said)
    return Effective(service, tomllib.loads(said))


@cache
def _dump(service: str, env: tuple[tuple[str, str], ...]) -> tuple[int, str]:
    """What the binary exits with and says; once for each environment."""
    command = [str(BINARIES / f"aegis-{service}"), "--dump-config"]
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr.strip()
