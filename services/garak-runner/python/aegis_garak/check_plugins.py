"""The trial of a custom module's classes: each is loaded as garak would load it, and its detectors score something."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any

from aegis_garak import custom, survey_plugin
from aegis_garak.check_source import Findings, class_facts, failures, names, text
from aegis_garak.protocol import Json

_TIERS = (1, 2, 3, 9)
_MAX_PROMPTS_LOOKED_AT = 10_000


def examine_plugins(source: custom.Source, module: ModuleType, lines: dict[str, int], findings: Findings) -> None:
    """Every probe and detector that the module defines."""
    probes = custom.plugins(module, "probes")
    detectors = custom.plugins(module, "detectors")
    if not probes:
        findings.problem("NO_PROBE_CLASS", "the module defines no class derived from garak.probes.Probe")
    trial = _PluginTrial(source, lines, findings, {f"{source.name}.{plugin.__name__}" for plugin in detectors})
    for plugin in (*detectors, *probes):
        _class_docstring(plugin, lines, findings)
    for plugin in detectors:
        trial.detector(plugin)
    for plugin in probes:
        trial.probe(plugin)


def _class_docstring(plugin: type[Any], lines: dict[str, int], findings: Findings) -> None:
    # The loader gives a class without a docstring its own name as one.
    if plugin.__doc__ == plugin.__name__:
        findings.problem(
            "DOCSTRING_MISSING",
            f"{plugin.__name__} has no docstring: its first line is its description",
            lines.get(plugin.__name__, 0),
            severity="warning",
        )


class _PluginTrial:
    """Loads plugins and says what does not work."""

    def __init__(self, source: custom.Source, lines: dict[str, int], findings: Findings, own: set[str]) -> None:
        self._source = source
        self._lines = lines
        self._findings = findings
        self._own = own
        self._unavailable: dict[str, str] = {}
        """Detectors that were said to be unavailable, and garak's reasons."""

    def detector(self, plugin: type[Any]) -> None:
        """A detector of the module's own."""
        name = f"{self._source.name}.{plugin.__name__}"
        line = self._lines.get(plugin.__name__, 0)
        self._findings.stage(f"while the detector {name} was loaded")
        self._metadata(name, plugin, line)
        self._unavailable[name] = "does not load"
        with failures(self._findings, self._source, "DETECTOR_UNAVAILABLE", f"the detector {name}", line):
            self._load(f"detectors.{name}")
            del self._unavailable[name]
        self._findings.custom_class(class_facts("detector", plugin, name))

    def probe(self, plugin: type[Any]) -> None:
        """A probe, its prompts, its detectors."""
        name = f"{self._source.name}.{plugin.__name__}"
        line = self._lines.get(plugin.__name__, 0)
        facts = class_facts("probe", plugin, name)
        facts |= _detectors_of(plugin)
        self._metadata(name, plugin, line)
        if not facts["active"]:
            message = f"{name} is not active: naming its module alone does not choose it"
            self._findings.problem("PROBE_INACTIVE", message, line, severity="warning")
        self._findings.stage(f"while the probe {name} was loaded")
        random.seed(0)
        probe: Any = None
        attempt: Any = None
        with failures(self._findings, self._source, "PROBE_CRASHED", f"the probe {name}", line):
            survey_plugin.select(name)
            probe = self._load(f"probes.{name}")
            facts |= _detectors_of(probe) | {"prompts": self._prompts(name, probe, line)}
            attempt = survey_plugin.attempt(probe, probe.prompts) if facts["prompts"] else None
        self._findings.custom_class(facts)
        self._detectors(name, facts, attempt, line)

    def _load(self, path: str) -> Any:
        from garak import _plugins

        return _plugins.load_plugin(path)

    def _metadata(self, name: str, plugin: type[Any], line: int) -> None:
        """What garak's report writer cannot do without (report_digest.py: description, tags, tier)."""
        tags = getattr(plugin, "tags", None)
        if not isinstance(tags, list | tuple | set) or not all(isinstance(tag, str) for tag in tags):
            self._findings.problem("METADATA_INVALID", f"the tags of {name} are not a list of strings", line)
        if issubclass(plugin, custom.base("probes")) and getattr(plugin, "tier", None) not in _TIERS:
            self._findings.problem("METADATA_INVALID", f"the tier of {name} is not one of garak.probes.Tier", line)

    def _prompts(self, name: str, probe: Any, line: int) -> int:
        prompts = getattr(probe, "prompts", None)
        if prompts is not None and not isinstance(prompts, list):
            self._findings.problem("PROMPTS_INVALID", f"the prompts of {name} are not a list", line)
            return 0
        if not prompts:
            if survey_plugin.asks_prompts(probe):
                self._findings.problem("NO_PROMPTS", f"{name} has no prompts", line)
            return 0
        if not all(_is_prompt(prompt) for prompt in prompts[:_MAX_PROMPTS_LOOKED_AT]):
            message = f"a prompt of {name} is no string, and no Message or Conversation of garak's"
            self._findings.problem("PROMPTS_INVALID", message, line)
            return 0
        return len(prompts)

    def _detectors(self, name: str, facts: Json, attempt: Any, line: int) -> None:
        if not facts["primary_detector"]:
            message = f"{name} names no primary_detector: garak would count every answer as a hit"
            self._findings.problem("DETECTOR_MISSING", message, line)
        wanted = [facts["primary_detector"], *facts["extended_detectors"]]
        for detector in dict.fromkeys(one for one in wanted if one):
            self._findings.stage(f"while the detector {detector} of {name} was tried")
            if detector in self._own:
                self._score(detector, attempt, line)
            else:
                self._foreign(detector, name, attempt, line)

    def _score(self, detector: str, attempt: Any, line: int) -> None:
        """Have a detector of the module's own score something."""
        place = self._lines.get(detector.rpartition(".")[2], line)
        if attempt is None or detector in self._unavailable:
            return
        with failures(self._findings, self._source, "DETECTOR_CRASHED", f"the detector {detector}", place):
            scores = list(self._load(f"detectors.{detector}").detect(attempt))
            if not all(_is_score(score) for score in scores):
                raise TypeError("a score is a number from 0 to 1, or None")

    def _foreign(self, detector: str, probe_name: str, attempt: Any, line: int) -> None:
        """A detector that is garak's, or should be."""
        if detector not in self._unavailable:
            self._unavailable[detector] = self._why_not(detector, attempt)
        why = self._unavailable[detector]
        if why:
            message = f"{detector}, a detector of {probe_name}, {why}"
            self._findings.problem("DETECTOR_UNAVAILABLE", message, line)

    def _why_not(self, detector: str, attempt: Any) -> str:
        from garak import _plugins

        if f"detectors.{detector}" not in _plugins.PluginCache.instance()["detectors"]:
            return "is not known"
        wrong = survey_plugin.try_detector(detector, attempt)
        return "" if wrong is None else text(f"is not available here: {wrong['message']}")


def _detectors_of(probe: Any) -> Json:
    return {
        "primary_detector": text(getattr(probe, "primary_detector", None), 200),
        "extended_detectors": names(getattr(probe, "extended_detectors", None)),
    }


def _is_prompt(prompt: object) -> bool:
    from garak.attempt import Conversation, Message

    return isinstance(prompt, str | Message | Conversation)


def _is_score(score: object) -> bool:
    return score is None or (isinstance(score, int | float) and 0 <= score <= 1)
