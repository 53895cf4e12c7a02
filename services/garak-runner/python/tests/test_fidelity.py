"""A probe's evaluations equal those of a plain garak run of that probe alone."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import (
    GARAK_PYTHON,
    OPENAI_KEY,
    Json,
    WarmProcess,
    evals,
    openai_config,
    openai_job,
)
from fake_target import FakeTarget, chat, deterministic_text, serving

PROBES = (
    "badchars.BadCharacters",  # depends on the hash seed
    "dan.DanInTheWild",  # 666 prompts, over garak's cap of 256: sampled
    "encoding.InjectROT13",
    "goodside.ThreatenJSON",
    "lmrc.SlurUsage",
    "promptinject.HijackHateHumans",  # sets options on the generator before each attempt
    "leakreplay.PotterCloze",
    "web_injection.MarkdownXSS",
)


def plain_garak(probe: str, target: FakeTarget, home: Path, generations: int) -> list[Json]:
    home.mkdir()
    config = openai_config(target.base_url, generations)
    config["run"] |= {"seed": 7, "spec": {"include": [f"probes.{probe}"]}}
    config["plugins"]["target_type"] = "openai.OpenAICompatible"
    config["reporting"] = {"report_dir": str(home), "report_prefix": "plain"}
    (home / "config.json").write_text(json.dumps(config))
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONHASHSEED": "0",
        "HF_HUB_OFFLINE": "1",
        **{f"XDG_{name}_HOME": str(home / name) for name in ("DATA", "CONFIG", "CACHE")},
        **OPENAI_KEY,
    }
    command = [GARAK_PYTHON, "-m", "garak", "--config", str(home / "config.json")]
    subprocess.run(command, env=env, cwd=home, check=True, capture_output=True, timeout=120)
    return evals(home / "plain.report.jsonl")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Json]]:
    """Plain garak's evaluations of every probe."""
    home = tmp_path_factory.mktemp("plain")
    with serving(lambda _, prompt: chat(deterministic_text(prompt))) as target, ThreadPoolExecutor(2) as pool:
        runs = {probe: pool.submit(plain_garak, probe, target, home / probe, 1) for probe in PROBES}
        return {probe: run.result() for probe, run in runs.items()}


@pytest.mark.parametrize("probe", PROBES)
def test_evaluations_equal_plain_garak(
    probe: str, plain: dict[str, list[Json]], warm: WarmProcess, tmp_path: Path
) -> None:
    with serving(lambda _, prompt: chat(deterministic_text(prompt)), latency=0.01) as target:
        job = openai_job(probe, target.base_url, max_in_flight=8)
        outcome = warm.run("probe", tmp_path, job, OPENAI_KEY)
    assert outcome.result["outcome"] == "evaluated", outcome.result
    assert plain[probe]
    assert evals(outcome.result["report"]) == plain[probe]


@pytest.mark.parametrize("chosen", ["dan.AntiDAN", "mitigation.MitigationBypass"])
def test_explicit_detectors_evaluate_as_the_default_ones_do(chosen: str, warm: WarmProcess, tmp_path: Path) -> None:
    found = {}
    with serving(lambda _, prompt: chat(deterministic_text(prompt))) as target:
        for name, detectors in (("default", None), ("explicit", [chosen])):
            (tmp_path / name).mkdir()
            job = openai_job("dan.AntiDAN", target.base_url, 3, detectors=detectors)
            outcome = warm.run("probe", tmp_path / name, job, OPENAI_KEY)
            found[name] = evals(outcome.result["report"])
    assert {entry["detector"] for entry in found["default"]} == {"dan.AntiDAN", "mitigation.MitigationBypass"}
    assert found["explicit"] == [entry for entry in found["default"] if entry["detector"] == chosen]
