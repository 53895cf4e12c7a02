"""One plugin, tried out: does it load, how many prompts has it, do its detectors score anything?"""

from __future__ import annotations

import importlib
import random
from contextlib import suppress
from typing import Any

from aegis_garak.fingerprint import is_installed
from aegis_garak.protocol import Json

_SEED = 0
"""Sampling down to garak's prompt cap draws random numbers; the count does not depend on them, but nothing should."""

_DUMMY_OUTPUTS = (
    "Sure, here is an answer.",
    "I'm sorry, but I cannot help with that.",
    # For detectors that look at code only.
    "```python\nimport os\nimport surely_no_such_package\n```\n```ruby\nrequire 'nope'\n```",
)

_NETWORK = frozenset(
    {
        *("ConnectionError", "ConnectError", "ConnectTimeout", "ReadTimeout", "URLError", "gaierror"),
        *("MaxRetryError", "NameResolutionError", "ProxyError", "SSLError", "HTTPError"),
        *("OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectionRefusedError", "TimeoutException"),
    }
)


def prepare() -> None:
    """garak's base configuration and services, once, before the trials are forked."""
    with suppress(Exception):  # where it is installed: a second for each detector that would import it by itself
        from transformers import AutoConfig, AutoTokenizer, TextClassificationPipeline  # noqa: F401
    base_configuration()


def base_configuration() -> None:
    """What garak's command line sets up before it loads a plugin."""
    from garak import _config
    from garak.harnesses.base import _initialize_runtime_services

    _config.load_base_config()
    _config.load_config()
    _config.run.seed = _SEED
    _initialize_runtime_services()


def without_answer(category: str, timed_out: bool) -> Json:
    """What is said of a plugin whose trial gave no answer."""
    return _answer(
        category,
        _problem("TIMED_OUT", "took too long to load") if timed_out else _problem("LOAD_FAILED", "its process died"),
    )


def examine(category: str, name: str) -> Json:
    """The facts that a catalogue entry adds to garak's own."""
    random.seed(_SEED)
    if category == "probes":
        return _probe(name)
    if category == "generators":
        return _generator(name)
    return _answer(category, _load(f"{category}.{name}")[1])


def _answer(category: str, problem: Json | None) -> Json:
    if category == "probes":
        return {"prompts": None, "not_evaluable": problem, "unavailable_detectors": []}
    if category == "generators":
        return {"not_loadable": problem, "loadable": problem is None, "key_env_var": None}
    return {"not_loadable": problem}


def _problem(reason: str, message: str) -> Json:
    return {"reason": reason, "message": message}


def _load(path: str) -> tuple[Any, Json | None]:
    from garak import _plugins

    try:
        return _plugins.load_plugin(path), None
    except Exception as error:
        return None, explain(error, path)


def explain(error: BaseException, path: str) -> Json:
    """Why a plugin does not load, by the types in the chain of causes."""
    names: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(names) < 32:
        names.append(type(cause).__name__)
        if isinstance(cause, ModuleNotFoundError):
            missing = [cause.name] if cause.name else _missing_modules(path)
            return _problem("MISSING_MODULE", "needs " + ", ".join(missing or ["a module that is not installed"]))
        if type(cause).__name__ == "APIKeyMissingError":
            return _problem("MISSING_CREDENTIAL", f"needs {_key_name(path) or 'a credential'}")
        cause = cause.__cause__ or cause.__context__
    if not _NETWORK.isdisjoint(names):
        return _problem("NEEDS_NETWORK", "needs data from the network")
    if names[-1] == "LookupError":  # what nltk raises for data that was never downloaded
        return _problem("NEEDS_NETWORK", "needs data from the network")
    return _problem("LOAD_FAILED", f"does not load ({names[-1]})")


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"garak.{module}"), name, None)


def _missing_modules(path: str) -> list[str]:
    from garak import _plugins

    category = path.partition(".")[0]
    declared = _plugins.PluginCache.instance()[category].get(path, {}).get("extra_dependency_names") or []
    return [name for name in declared if not is_installed(name)]


def _key_name(path: str) -> str | None:
    name = getattr(_class(path), "ENV_VAR", None)
    return str(name) if name else None


def _generator(name: str) -> Json:
    """Not constructed: that would need a model, a credential and, for some, a call to the target."""
    from aegis_garak import parallel

    try:
        generator = _class(f"generators.{name}")
    except Exception as error:
        return _answer("generators", explain(error, f"generators.{name}"))
    missing = _missing_modules(f"generators.{name}")
    problem = _problem("MISSING_MODULE", "needs " + ", ".join(missing)) if missing else None
    return _answer("generators", problem) | {
        "key_env_var": getattr(generator, "ENV_VAR", None) or None,
        "parallel_capable": bool(generator.parallel_capable) or parallel.is_thread_safe(generator),
    }


def _probe(name: str) -> Json:
    select(name)
    probe, problem = _load(f"probes.{name}")
    if problem is not None:
        return _answer("probes", problem)
    prompts = getattr(probe, "prompts", None)
    count = len(prompts) if isinstance(prompts, list) else 0
    facts = _answer("probes", None) | {"prompts": count}
    if count == 0 and asks_prompts(probe):
        return facts | {"not_evaluable": _problem("NO_PROMPTS", "has no prompts in this installation")}
    return facts | _try_detectors(probe, prompts)


def asks_prompts(probe: Any) -> bool:
    """Whether it asks its `prompts`; probes with a probe() of their own may make prompts as they go."""
    from garak.probes.base import IntentProbe, Probe

    return type(probe).probe in (Probe.probe, IntentProbe.probe)


def select(name: str) -> None:
    """What garak's command line does with a selection of this one probe, for probes that follow intents."""
    from garak import _config, _selection
    from garak._spec import parse_spec_file

    resolved = _selection.resolve_spec(parse_spec_file({"include": [f"probes.{name}"]}), skip_unknown=True)
    _config.transient.intent_spec = ",".join(resolved.intents)
    _config.transient.blocked_intent_spec = ",".join(resolved.blocked_intents)
    _config.transient.intents_explicit = resolved.intents_explicit


def _try_detectors(probe: Any, prompts: Any) -> Json:
    names = [probe.primary_detector] if probe.primary_detector else []
    names += sorted(set(probe.extended_detectors or []) - set(names))
    problems = {name: try_detector(name, _first_attempt(probe, prompts)) for name in names}
    unavailable = [name for name in names if problems[name] is not None]
    facts: Json = {
        "primary_detector": probe.primary_detector,
        "extended_detectors": names[1:] if probe.primary_detector else names,
        "unavailable_detectors": unavailable,
    }
    if names and len(unavailable) == len(names):
        first = problems[names[0]] or {}
        message = f"{names[0]}: {first.get('message')}"
        facts["not_evaluable"] = _problem("DETECTOR_UNAVAILABLE", message)
    return facts


def _first_attempt(probe: Any, prompts: Any) -> Any:
    if not isinstance(prompts, list) or not prompts:
        return None
    try:
        return attempt(probe, prompts)
    except Exception:  # a probe that makes attempts in its own way: loading the detector is all we can try
        return None


def try_detector(name: str, attempted: Any) -> Json | None:
    """Load a detector and let it score; a detector that gives nothing but None evaluates nothing."""
    detector, problem = _load(f"detectors.{name}")
    if problem is not None:
        return problem
    if attempted is None:
        return None
    try:
        scores = list(detector.detect(attempted))
    except Exception as error:
        problem = explain(error, f"detectors.{name}")
        return problem | {"message": f"fails to score ({type(error).__name__})"}
    if all(score is None for score in scores):
        return _problem("SCORES_NOTHING", "loads, but scores no output here")
    return None


def attempt(probe: Any, prompts: list[Any]) -> Any:
    """The probe's first attempt, with answers for detectors to score."""
    from garak.attempt import Message

    prompt = Message(prompts[0], lang=probe.lang) if isinstance(prompts[0], str) else prompts[0]
    minted = probe._mint_attempt(prompt, 0, None, probe.lang)
    minted.outputs = [Message(text, lang=minted.lang) for text in _DUMMY_OUTPUTS]
    return minted
