"""What the warm process does before the first fork: import what a scan needs, and keep nothing else.

A fork inherits only the calling thread, so nothing here may start one.
"""

from __future__ import annotations

import gc
import os

# Read by numpy's and tqdm's own imports: no thread pool that would not survive a fork, no progress bars
# (stderr is nobody's terminal; tqdm documents TQDM_* as its defaults).
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"
# Read by garak's: else it opens a log without end, at DEBUG level, with prompts in it. `garak_state` gives each child
# another.
os.environ["GARAK_LOG_FILE"] = os.devnull

_MODULES = (
    "garak.cli",
    "garak.command",
    "garak._spec",
    "garak._selection",
    "garak.evaluators",
    "garak.evaluators.base",
    "garak.harnesses.probewise",
    "garak.harnesses.pxd",
    "garak.services.langservice",
    "garak.services.intentservice",
    "garak.langproviders.local",
    "garak.analyze.report_digest",
    "garak.probes.base",
    "garak.detectors.base",
    "garak.detectors.mitigation",
    "garak.detectors.always",
    "garak.buffs.base",
    "garak.payloads",
    "garak.generators.test",
    "garak.generators.rest",
    "garak.generators.openai",
    "garak.generators.ollama",
    "ollama",
    "nltk",
    "aiohttp",
    "requests",
    "httpx",
)


def preload() -> str:
    """Import garak and what a scan needs; returns garak's version."""
    import garak

    from aegis_garak import garak_state

    garak_state.take_snapshot()
    import importlib

    for name in _MODULES:
        importlib.import_module(name)
    _touch_openai()
    _import_probes()
    garak_state.forget_log()
    from garak import _plugins

    _plugins.PluginCache.instance()
    for name in (
        "child",
        "run_probe",
        "run_report",
        "survey",
        "survey_plugin",
        "custom",
        "check",
        "check_source",
        "check_plugins",
        "sandbox",
        "landlock",
        "trials",
        "widths",
        "fingerprint",
        "target",
        "deadline",
        "seams",
        "parallel",
        "threads",
        "width",
        "outcome",
        "events",
    ):
        importlib.import_module(f"aegis_garak.{name}")
    gc.collect()
    # Move everything out of the collector's sight: a collection in a child would otherwise write to, and so copy,
    # every page (gc.freeze's documentation).
    gc.freeze()
    return str(garak.__version__)


def _touch_openai() -> None:
    """The client imports its resources at first use; do that once, here. Nothing is sent."""
    import openai

    client = openai.OpenAI(api_key="unused", base_url="http://127.0.0.1:9/")
    _ = client.chat.completions.create, client.completions.create
    client.close()


def _import_probes() -> None:
    """Import the modules of probes and detectors that can be had at little cost.

    Left out: what draws random numbers while it is imported. Its draw must come after garak's seeding, in the child, or
    a seeded run of ours would differ from a seeded run of garak's.
    """
    import importlib
    import random
    import sys
    from contextlib import suppress

    from garak import _plugins

    names = sorted(
        {
            ".".join(["garak", *plugin.split(".")[:2]])
            for category in ("probes", "detectors")
            for plugin in _plugins.PluginCache.instance()[category]
        }
    )
    before = random.getstate()
    for name in names:
        with suppress(Exception):  # it does not load here: the survey says so, and why
            importlib.import_module(name)
        if random.getstate() != before:
            random.setstate(before)
            sys.modules.pop(name, None)
