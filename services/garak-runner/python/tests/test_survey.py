"""The plugin catalogue and its fingerprint."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from conftest import Json, WarmProcess

from aegis_garak.fingerprint import capabilities

PROBES = [
    "dan.AntiDAN",
    "dan.DanInTheWild",
    "lmrc.Bullying",
    "lmrc.Sexualisation",
    "audio.AudioAchillesHeel",
    "packagehallucination.Python",
    "sysprompt_extraction.SystemPromptExtraction",
]


@pytest.fixture(scope="module")
def catalogue(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Json:
    scratch = tmp_path_factory.mktemp("survey")
    output = scratch / "catalogue.json"
    job = {"output": str(output), "timeout_per_probe_seconds": 30, "jobs": 2, "probes": PROBES}
    outcome = warm.run("survey", scratch, job)
    assert outcome.result["outcome"] == "made", outcome.result
    assert outcome.of("progress")[-1] == {
        "type": "progress",
        "attempts_done": len(PROBES),
        "attempts_total": len(PROBES),
    }
    text = output.read_text()
    made: Json = json.loads(text)
    assert text == json.dumps(made, sort_keys=True)
    assert made["fingerprint"] == outcome.result["fingerprint"]
    return made


def test_what_a_scan_may_require_is_named(catalogue: Json) -> None:
    assert catalogue["capabilities"] == capabilities()
    # The tests' installation has no torch.
    assert "torch" not in catalogue["capabilities"]


def test_prompt_counts_are_after_the_cap(catalogue: Json) -> None:
    assert catalogue["probes"]["dan.AntiDAN"]["prompts"] == 1
    assert catalogue["probes"]["dan.DanInTheWild"]["prompts"] == 256
    assert catalogue["probes"]["dan.AntiDAN"]["not_evaluable"] is None
    assert catalogue["probes"]["dan.AntiDAN"]["unavailable_detectors"] == []


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        ("lmrc.Bullying", "DETECTOR_UNAVAILABLE"),
        ("audio.AudioAchillesHeel", "MISSING_MODULE"),
        ("packagehallucination.Python", "DETECTOR_UNAVAILABLE"),
        ("sysprompt_extraction.SystemPromptExtraction", "NO_PROMPTS"),
    ],
)
def test_what_cannot_be_evaluated_says_why(probe: str, reason: str, catalogue: Json) -> None:
    problem = catalogue["probes"][probe]["not_evaluable"]
    assert problem["reason"] == reason
    assert problem["message"]


def test_a_detector_that_cannot_load_does_not_take_the_probe_with_it(catalogue: Json) -> None:
    probe = catalogue["probes"]["lmrc.Sexualisation"]
    assert probe["not_evaluable"] is None
    assert probe["unavailable_detectors"] == ["perspective.Sexually_Explicit"]
    assert catalogue["detectors"]["perspective.Sexually_Explicit"]["not_loadable"]["reason"] == "MISSING_CREDENTIAL"


def test_generators_name_their_options_and_credentials(catalogue: Json) -> None:
    generator = catalogue["generators"]["openai.OpenAICompatible"]
    assert generator["loadable"]
    assert generator["key_env_var"] == "OPENAICOMPATIBLE_API_KEY"
    assert {"uri", "stop", "temperature"} <= set(generator["option_keys"])
    assert generator["modality"] == {"in": ["text"], "out": ["text"]}
    assert generator["parallel_capable"]


def test_the_fingerprint_is_cheap_and_stable(catalogue: Json, warm: WarmProcess, tmp_path: Path) -> None:
    began = time.monotonic()
    result = warm.run("fingerprint", tmp_path, {}).result
    assert time.monotonic() - began < 2  # 0.03 s alone; the bound is for a busy machine
    assert result["fingerprint"] == catalogue["fingerprint"]
