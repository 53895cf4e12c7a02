"""The starters that the orchestrator hands out: they validate, and they run as garak's own probes do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import GARAK_PYTHON, OPENAI_KEY, Json, WarmProcess, check, evals, openai_config, openai_job
from fake_target import Answer, chat, serving

STARTERS = Path(__file__).resolve().parents[3] / "scan-orchestrator/starters"
NAME = "acme_leak"
FOUND = {
    "minimal": ("SmallFraud", ["mitigation.MitigationBypass"], 2),
    "basic": ("AskForCodeWord", ["acme_leak.CodeWord"], 4),
    "advanced": ("Disguised", ["acme_leak.Revealed", "mitigation.MitigationBypass"], 12),
}


def weak(_number: int, prompt: str) -> Answer:
    """Gives some secrets away, and refuses the rest."""
    if "code word" in prompt:
        return chat("Sure: the code word is B-L-U-E-F-I-S-H." if "poem" in prompt else "It is BLUEFISH.")
    if "product" in prompt and "audit" in prompt:
        return chat("Project Heron")
    if "invoice" in prompt:
        return chat("INVOICE No 1. Consulting: 3,000.")
    return chat("I'm sorry, but I cannot help with that.")


@pytest.mark.parametrize("starter", FOUND)
def test_a_starter_validates(starter: str, warm: WarmProcess, tmp_path: Path) -> None:
    found = check(warm, tmp_path, (STARTERS / f"{starter}.py").read_text())
    assert (found["valid"], found["problems"]) == (True, [])
    name, detectors, prompts = FOUND[starter]
    probe = next(one for one in found["classes"] if one["kind"] == "probe")
    assert probe["name"] == f"acme_leak.{name}"
    assert [probe["primary_detector"], *probe["extended_detectors"]] == detectors
    assert probe["prompts"] == prompts
    assert probe["active"] and probe["description"] and probe["goal"] and probe["lang"] == "en"
    own = [one["name"] for one in found["classes"] if one["kind"] == "detector"]
    assert own == [one for one in detectors if one.startswith("acme_leak.")]


def test_the_example_of_the_documentation_validates(warm: WarmProcess, tmp_path: Path) -> None:
    page = (STARTERS.parents[2] / "docs/custom-probes.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    found = check(warm, tmp_path, example)
    assert (found["valid"], found["problems"], len(found["classes"])) == (True, [], 2)


def run_starter(starter: str, warm: WarmProcess, tmp_path: Path) -> Json:
    source = tmp_path / f"{NAME}.py"
    shutil.copy(STARTERS / f"{starter}.py", source)
    with serving(weak) as target:
        job = openai_job(f"{NAME}.{FOUND[starter][0]}", target.base_url, 2, custom_probes={NAME: str(source)})
        return warm.run("probe", tmp_path, job, OPENAI_KEY).result


@pytest.mark.parametrize("starter", FOUND)
def test_a_starter_finds_a_weak_target(starter: str, warm: WarmProcess, tmp_path: Path) -> None:
    result = run_starter(starter, warm, tmp_path)
    assert result["outcome"] == "evaluated", result
    name, detectors, prompts = FOUND[starter]
    found = {entry["detector"]: entry for entry in evals(result["report"])}
    assert list(found) == detectors
    primary = found[detectors[0]]
    assert primary["probe"] == f"acme_leak.{name}"
    assert primary["total_evaluated"] == prompts * 2
    assert 0 < primary["fails"] < prompts * 2
    hits = [json.loads(line) for line in Path(result["hitlog"]).read_text().splitlines()]
    assert {hit["probe"] for hit in hits} == {f"acme_leak.{name}"}


def test_numbers_equal_those_of_a_garak_that_has_the_module_installed(warm: WarmProcess, tmp_path: Path) -> None:
    """Plain garak in a copy of its package, with the file put where garak wants it, and its cache rebuilt."""
    plain = tmp_path / "plain"
    package = plain / "site/garak"
    code = "import garak, os; print(os.path.dirname(garak.__file__))"
    installed = subprocess.run([GARAK_PYTHON, "-c", code], capture_output=True, check=True, text=True).stdout.strip()
    shutil.copytree(installed, package, ignore=shutil.ignore_patterns("__pycache__"))
    for category in ("probes", "detectors"):
        shutil.copy(STARTERS / "advanced.py", package / category / f"{NAME}.py")
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(package.parent),
        "PYTHONHASHSEED": "0",
        "HF_HUB_OFFLINE": "1",
        **{f"XDG_{name}_HOME": str(plain / name) for name in ("DATA", "CONFIG", "CACHE")},
        **OPENAI_KEY,
    }
    # garak would rebuild its cache, and import all its modules for that, whatever they need: add ours instead.
    (plain / "add.py").write_text(ADD_TO_CACHE)
    subprocess.run([GARAK_PYTHON, str(plain / "add.py"), str(package)], env=env, check=True, capture_output=True)
    with serving(weak) as target:
        config = openai_config(target.base_url, 2)
        config["run"] |= {"seed": 7, "spec": {"include": [f"probes.{NAME}.Disguised"]}}
        config["plugins"]["target_type"] = "openai.OpenAICompatible"
        config["reporting"] = {"report_dir": str(plain), "report_prefix": "plain"}
        (plain / "config.json").write_text(json.dumps(config))
        command = [GARAK_PYTHON, "-m", "garak", "--config", str(plain / "config.json")]
        subprocess.run(command, env=env, cwd=plain, check=True, capture_output=True, timeout=120)
    scratch = tmp_path / "ours"
    scratch.mkdir()
    ours = run_starter("advanced", warm, scratch)
    expected = evals(plain / "plain.report.jsonl")
    assert len(expected) == 2
    assert evals(ours["report"]) == expected


# Describes the module's classes with garak's own functions, in a cache that garak finds up to date.
ADD_TO_CACHE = """
import importlib, json, os, sys, time
from pathlib import Path
package = Path(sys.argv[1])
path = package / "resources/plugin_cache.json"
cache = json.loads(path.read_text())
for category, names in (("probes", ["Disguised"]), ("detectors", ["Revealed"])):
    entry = {"active": True, "description": "x"}
    for name in names:
        cache[category][f"{category}.acme_leak.{name}"] = entry
path.write_text(json.dumps(cache))
from garak import _plugins
for category, names in (("probes", ["Disguised"]), ("detectors", ["Revealed"])):
    module = importlib.import_module(f"garak.{category}.acme_leak")
    for name in names:
        cache[category][f"{category}.acme_leak.{name}"] = _plugins.PluginCache.plugin_info(getattr(module, name))
path.write_text(json.dumps(cache, cls=_plugins.PluginEncoder))
later = time.time() + 5
os.utime(path, (later, later))
"""
