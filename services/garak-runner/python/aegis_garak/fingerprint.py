"""What a plugin catalogue depends on, in one hash: equal fingerprints mean that a stored survey still holds."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from aegis_garak.events import Events
from aegis_garak.protocol import Json

SURVEY_FORMAT = 2
"""Raise it when the survey's output changes."""

_FOLDERS = ("probes", "detectors", "generators", "buffs", "harnesses", "data", "resources")


def run(job: Json, scratch: Path, events: Events) -> None:
    """Kind "fingerprint"."""
    events.result("made", fingerprint=fingerprint())


def fingerprint() -> str:
    """SHA-256 in hexadecimal over versions, garak's plugin and data files with sizes, and modules they may need."""
    import garak
    from garak import _plugins

    root = Path(garak.__file__).parent
    facts = {
        "format": SURVEY_FORMAT,
        "garak": garak.__version__,
        "python": list(sys.version_info[:2]),
        "files": sorted(file for folder in _FOLDERS for file in _files(root / folder, folder)),
        "capabilities": capabilities(),
        "modules": {name: is_installed(name) for name in _optional_modules(_plugins.PluginCache.instance())},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def capabilities() -> list[str]:
    """What a scan may require of its runner: "torch", "gpu" (a device of NVIDIA's that this process may see)."""
    found = {"torch": is_installed("torch"), "gpu": any(Path("/dev").glob("nvidia[0-9]*"))}
    return [name for name, is_there in found.items() if is_there]


def _files(folder: Path, name: str) -> list[tuple[str, int]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    found += _files(Path(entry.path), path)
            else:
                found.append((path, entry.stat().st_size))
    return found


def _optional_modules(cache: Json) -> list[str]:
    """Every module that some plugin declares as an extra, and torch, which garak imports only when it needs it."""
    declared = {
        module
        for category in ("probes", "detectors", "generators", "buffs")
        for plugin in cache[category].values()
        for module in plugin.get("extra_dependency_names") or []
    }
    return sorted(declared | {"torch", "transformers", "tiktoken", "wn"})


def is_installed(module: str) -> bool:
    """Whether a module can be found, without importing it (its packages are imported, to look inside)."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
