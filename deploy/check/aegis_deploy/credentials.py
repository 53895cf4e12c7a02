"""Where a variable's secret comes from."""

import re
from collections.abc import Mapping

_FILE = re.compile(r'^\{ file = "(/run/secrets/[a-z0-9_/-]+)" \}$')
# Variables whose values are secrets, whatever their service.
_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|_KEY|DATABASE_URL)$")


def secret_file(name: str, value: str) -> str | None:
    """The file that has the variable's secret; None when the variable is none of a secret.

    A secret that stands in the variable itself is an error.
    """
    if name.endswith("_FILE"):
        return value
    if not _SECRET.search(name):
        return None
    found = _FILE.match(value)
    if not found:
        raise ValueError(f"{name} has a secret that is not in a file")
    return found.group(1)


def token_files(env: Mapping[str, str]) -> dict[str, str]:
    """The files of the tokens in an environment, by the key of their table: `server`, `catalog`, `` for
    the gateway's own.
    """
    found = {}
    for name, value in env.items():
        key = re.match(r"^AEGIS_(?:GATEWAY|SCAN_ORCHESTRATOR|CATALOG|ARTIFACT|GARAK_RUNNER)__([A-Z]+)__TOKEN$", name)
        if key:
            # What stands in the open is complained of elsewhere, and is nobody's file.
            file = _FILE.match(value)
            found[key.group(1).lower()] = file.group(1) if file else ""
    return found
