"""Kind "survey": the plugin catalogue of this installation, found out by trying each plugin in a process of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

from aegis_garak import survey_plugin, trials
from aegis_garak.events import Events, Progress
from aegis_garak.fingerprint import SURVEY_FORMAT, capabilities, fingerprint
from aegis_garak.protocol import Json

_KEPT: dict[str, tuple[str, ...]] = {
    "probes": (
        *("active", "description", "doc_uri", "extended_detectors", "goal", "intent", "lang", "modality"),
        *("parallelisable_attempts", "primary_detector", "tags", "tier"),
    ),
    "detectors": (
        "active",
        "description",
        "doc_uri",
        "hit_desc",
        "lang_spec",
        "modality",
        "pass_desc",
        "tags",
    ),
    "generators": ("active", "description", "modality", "parallel_capable", "supports_multiple_generations"),
    "buffs": ("active", "description", "doc_uri", "lang"),
}
"""What the catalogue takes from garak's own plugin cache, per category."""

_OTHERS = ("detectors", "generators", "buffs")


def run(job: Json, scratch: Path, events: Events) -> None:
    """Try every plugin and write the catalogue to `output`. `probes` limits which probes are tried (for tests)."""
    output = Path(job["output"])
    timeout = float(job["timeout_per_probe_seconds"])
    jobs = max(1, int(job["jobs"]))
    chosen = job.get("probes")
    cache = _cache()
    probes = sorted(cache["probes"]) if chosen is None else sorted(chosen)
    progress = Progress(events, total=len(probes))
    found: dict[str, dict[str, Json]] = {name: {} for name in _KEPT}
    survey_plugin.prepare()

    def tried(key: tuple[str, str], facts: Json) -> None:
        category, name = key
        found[category][name] = facts
        if category == "probes":
            progress.add_done()

    # The slow ones are among the probes: first.
    keys = [("probes", name) for name in probes]
    keys += [(category, name) for category in _OTHERS for name in sorted(cache[category])]
    trials.run(keys, survey_plugin.examine, survey_plugin.without_answer, timeout, jobs, tried)
    catalogue = {
        "format": SURVEY_FORMAT,
        "garak_version": _garak_version(),
        "fingerprint": fingerprint(),
        "capabilities": capabilities(),
        **{
            category: {name: _entry(category, cache[category][name], facts) for name, facts in plugins.items()}
            for category, plugins in found.items()
        },
    }
    partial = output.with_name(f"{output.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(catalogue, sort_keys=True), encoding="utf-8")
    partial.replace(output)
    events.result("made", output=str(output), fingerprint=str(catalogue["fingerprint"]))


def _entry(category: str, cached: Json, facts: Json) -> Json:
    kept = {name: cached.get(name) for name in _KEPT[category]}
    return kept | {"option_keys": sorted(cached.get("DEFAULT_PARAMS") or {})} | facts


def _cache() -> dict[str, dict[str, Json]]:
    """garak's plugin cache without base classes, names without their category."""
    from garak import _plugins

    cache = _plugins.PluginCache.instance()
    return {
        category: {
            name.removeprefix(f"{category}."): plugin
            for name, plugin in cache[category].items()
            if ".base." not in name
        }
        for category in _KEPT
    }


def _garak_version() -> str:
    import garak

    return str(garak.__version__)
