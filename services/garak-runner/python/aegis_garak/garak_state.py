"""garak keeps its state in module globals; this gives a child the state of a fresh process."""

from __future__ import annotations

import copy
import logging
import random
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

_SECTIONS = ("system", "transient", "run", "plugins", "reporting")
_LOG_BYTES = 1024 * 1024
_LOG_LINE = 8 * 1024
_pristine: dict[str, dict[str, Any]] = {}


def take_snapshot() -> None:
    """Remember garak's configuration as it is right after its import, before anything loads a file."""
    from garak import _config

    for section in _SECTIONS:
        _pristine[section] = copy.deepcopy(vars(getattr(_config, section)))


def forget_log() -> None:
    """Detach garak's log from its file: it is at DEBUG level and contains prompts (garak/__init__.py)."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.addHandler(logging.NullHandler())


def log_to(path: Path) -> None:
    """Give garak a log of its own: what went wrong, at most `_LOG_BYTES` twice, and gone with the task.

    WARNING keeps garak and the HTTP clients from formatting every request.
    """
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, delay=True)
    handler.setFormatter(_ShortLines("%(asctime)s  %(levelname)s  %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


class _ShortLines(logging.Formatter):
    """One message alone could be larger than the file may be."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record)[:_LOG_LINE]


def reset(home: Path) -> None:
    """Put garak back to how a new process finds it, with its directories under `home`."""
    from garak import _config, _plugins
    from garak.evaluators.base import Evaluator

    for section in _SECTIONS:
        values = vars(getattr(_config, section))
        values.clear()
        values.update(copy.deepcopy(_pristine[section]))
    for name in ("data", "config", "cache"):
        directory = home / name / "garak"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        setattr(_config.transient, f"{name}_dir", directory)
    _config.transient.log_filename = str(home / "garak.log")
    log_to(home / "garak.log")
    _config.config_files.clear()
    _config.buffmanager.buffs = []
    _config.is_loaded = False
    _plugins.PluginProvider._instance_cache.clear()
    Evaluator._last_probe_printed = None
    random.seed()  # else all children would share the warm process's state; garak seeds it again at its start
    import numpy

    numpy.random.seed()
