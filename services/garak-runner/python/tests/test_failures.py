"""Each way in which garak fails silently, loudly or never becomes a named reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import (
    OPENAI_KEY,
    REST_KEY,
    Json,
    WarmProcess,
    openai_config,
    openai_job,
    probe_job,
    rest_config,
)
from fake_target import Answer, chat, failing, free_port, serving

PROBE = "web_injection.MarkdownXSS"  # seven prompts
JSON = {"Content-Type": "application/json"}


def rest_job(base_url: str, **changes: object) -> Json:
    return probe_job(PROBE, "rest.RestGenerator", garak_config=rest_config(base_url)) | changes


def always(answer: Answer) -> Callable[[int, str], Answer]:
    return lambda _number, _prompt: answer


@pytest.mark.parametrize(
    ("answer", "openai", "rest"),
    [
        (failing(401), "TARGET_UNAUTHORIZED", "TARGET_UNAUTHORIZED"),
        (failing(403), "TARGET_UNAUTHORIZED", "TARGET_UNAUTHORIZED"),
        (failing(404), "TARGET_NOT_FOUND", "TARGET_NOT_FOUND"),
        (failing(400), "TARGET_REJECTED", "TARGET_REJECTED"),
        (failing(422), "TARGET_REJECTED", "TARGET_REJECTED"),
        ((200, JSON, b"{not json"), "TARGET_INVALID_RESPONSE", "TARGET_INVALID_RESPONSE"),
        ((200, JSON, b""), "TARGET_INVALID_RESPONSE", "TARGET_INVALID_RESPONSE"),
        ((200, JSON, b"{}"), "TARGET_INVALID_RESPONSE", "TARGET_INVALID_RESPONSE"),
        (
            (200, {"Content-Type": "text/html"}, b"<html>"),
            "TARGET_INVALID_RESPONSE",
            "TARGET_INVALID_RESPONSE",
        ),
    ],
)
@pytest.mark.parametrize("client", ["openai", "rest"])
def test_permanent_failures_of_the_target(
    client: str, answer: Answer, openai: str, rest: str, warm: WarmProcess, tmp_path: Path
) -> None:
    with serving(always(answer)) as target:
        if client == "openai":
            outcome = warm.run("probe", tmp_path, openai_job(PROBE, target.base_url), OPENAI_KEY)
        else:
            outcome = warm.run("probe", tmp_path, rest_job(target.base_url), REST_KEY)
    result = outcome.result
    assert result["outcome"] == "not_evaluated"
    assert result["reason"] == (openai if client == "openai" else rest), result
    assert result["class"] == "permanent"


@pytest.mark.parametrize("client", ["openai", "rest"])
def test_429_is_backpressure_with_the_targets_own_wish(client: str, warm: WarmProcess, tmp_path: Path) -> None:
    with serving(always(failing(429, {"Retry-After": "30"}))) as target:
        job, key = (
            (openai_job(PROBE, target.base_url), OPENAI_KEY)
            if client == "openai"
            else (rest_job(target.base_url), REST_KEY)
        )
        # The openai client itself honours Retry-After; it must not make us wait longer than our patience.
        outcome = warm.run("probe", tmp_path, job, key)
        assert target.calls <= 2
    result = outcome.result
    assert (result["reason"], result["class"]) == ("TARGET_BUSY", "backpressure")
    assert result["retry_after_seconds"] == 30.0


@pytest.mark.parametrize("client", ["openai", "rest"])
def test_500_is_retryable(client: str, warm: WarmProcess, tmp_path: Path) -> None:
    with serving(always(failing(500))) as target:
        job, key = (
            (openai_job(PROBE, target.base_url), OPENAI_KEY)
            if client == "openai"
            else (rest_job(target.base_url), REST_KEY)
        )
        outcome = warm.run("probe", tmp_path, job, key)
    result = outcome.result
    assert (result["reason"], result["class"]) == ("TARGET_ERROR", "retryable")


@pytest.mark.parametrize("client", ["openai", "rest"])
def test_connection_refused_is_backpressure_within_patience(client: str, warm: WarmProcess, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    job, key = (openai_job(PROBE, url), OPENAI_KEY) if client == "openai" else (rest_job(url), REST_KEY)
    outcome = warm.run("probe", tmp_path, job, key)
    result = outcome.result
    assert (result["reason"], result["class"]) == ("TARGET_UNREACHABLE", "backpressure")
    assert {event["reason"] for event in outcome.of("target_retried")} == {"CONNECTION_REFUSED"}


@pytest.mark.parametrize("client", ["openai", "rest"])
def test_a_target_that_dies_in_the_middle(client: str, warm: WarmProcess, tmp_path: Path) -> None:
    def respond(number: int, _prompt: str) -> Answer:
        if number <= 3:
            return chat("hello") if client == "openai" else (200, JSON, b'{"text":"hello"}')
        return -1, {}, b""

    with serving(respond) as target:
        job, key = (
            (openai_job(PROBE, target.base_url, max_in_flight=1), OPENAI_KEY)
            if client == "openai"
            else (rest_job(target.base_url, max_in_flight=1), REST_KEY)
        )
        outcome = warm.run("probe", tmp_path, job, key)
    result = outcome.result
    assert (result["reason"], result["class"]) == ("TARGET_UNREACHABLE", "backpressure")
    assert result["attempts_done"] == 3


def test_a_target_that_comes_back_is_evaluated(warm: WarmProcess, tmp_path: Path) -> None:
    def respond(number: int, _prompt: str) -> Answer:
        return failing(503) if number in (2, 3) else chat("hello")

    with serving(respond) as target:
        job = openai_job(PROBE, target.base_url, target_patience_seconds=30.0)
        outcome = warm.run("probe", tmp_path, job, OPENAI_KEY)
    assert outcome.result["outcome"] == "evaluated"
    assert {event["reason"] for event in outcome.of("target_retried")} <= {"HTTP_503"}


def test_a_target_that_is_too_slow(warm: WarmProcess, tmp_path: Path) -> None:
    with serving(lambda _number, _prompt: None) as target:
        job = openai_job(PROBE, target.base_url, request_timeout_seconds=0.3, target_patience_seconds=1.0)
        outcome = warm.run("probe", tmp_path, job, OPENAI_KEY)
    result = outcome.result
    assert (result["reason"], result["class"]) == ("TARGET_UNREACHABLE", "backpressure")
    assert "TIMEOUT" in result["message"]


def test_null_answers_are_invalid_responses(warm: WarmProcess, tmp_path: Path) -> None:
    with serving(always(chat(None))) as target:
        outcome = warm.run("probe", tmp_path, openai_job(PROBE, target.base_url), OPENAI_KEY)
    assert outcome.result["reason"] == "TARGET_INVALID_RESPONSE"


@pytest.mark.parametrize(
    ("job", "reason", "retry_class"),
    [
        (probe_job("dan.NoSuchProbe"), "PROBE_UNAVAILABLE", "permanent"),
        (probe_job("audio.AudioAchillesHeel"), "PROBE_UNAVAILABLE", "permanent"),
        (probe_job("lmrc.Bullying"), "DETECTOR_UNAVAILABLE", "permanent"),
        (probe_job(PROBE, detectors=["no.Such"]), "DETECTOR_UNAVAILABLE", "permanent"),
        (probe_job("sysprompt_extraction.SystemPromptExtraction"), "NO_PROMPTS", "permanent"),
        (probe_job(PROBE, "no.Such"), "GENERATOR_UNAVAILABLE", "permanent"),
        (probe_job(PROBE, "test.NoSuch"), "GENERATOR_UNAVAILABLE", "permanent"),
        (probe_job(PROBE, "test.Nones"), "NOTHING_EVALUATED", "permanent"),
        (probe_job(PROBE, limits={"file_bytes": 4096}), "OUTPUT_TOO_LARGE", "permanent"),
        (probe_job("dan.DanInTheWildFull", limits={"wall_seconds": 0.2}), "TIMED_OUT", "retryable"),
        (probe_job("../dan.AntiDAN"), "BAD_JOB", "permanent"),
        (probe_job(PROBE, max_in_flight=0), "BAD_JOB", "permanent"),
        (
            probe_job(PROBE, garak_config={"run": {"eval_threshold": "x", "generations": 1}}),
            "PROBE_CRASHED",
            "retryable",
        ),
    ],
)
def test_what_cannot_be_run_here(job: Json, reason: str, retry_class: str, warm: WarmProcess, tmp_path: Path) -> None:
    result = warm.run("probe", tmp_path, job).result
    assert (result["outcome"], result["reason"], result["class"]) == ("not_evaluated", reason, retry_class)
    assert result["message"]


def test_a_missing_credential(warm: WarmProcess, tmp_path: Path) -> None:
    with serving(always(chat("x"))) as target:
        result = warm.run("probe", tmp_path, openai_job(PROBE, target.base_url)).result
    assert result["reason"] == "MISSING_CREDENTIAL"


def test_a_model_name_is_needed(warm: WarmProcess, tmp_path: Path) -> None:
    with serving(always(chat("x"))) as target:
        config = openai_config(target.base_url)
        del config["plugins"]["target_name"]
        job = openai_job(PROBE, target.base_url) | {"garak_config": config}
        result = warm.run("probe", tmp_path, job, OPENAI_KEY).result
    assert result["reason"] == "GENERATOR_UNAVAILABLE"


def test_a_probe_whose_extended_detector_cannot_load_is_still_evaluated(warm: WarmProcess, tmp_path: Path) -> None:
    outcome = warm.run("probe", tmp_path, probe_job("lmrc.Sexualisation"))
    assert outcome.result["outcome"] == "evaluated"
    assert outcome.of("loaded")[0]["detectors"]


def test_a_failure_in_a_process_pool_ends_the_job(warm: WarmProcess, tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(
        f"import requests\n\n\ndef answer(prompt):\n    return [requests.get('http://127.0.0.1:{free_port()}/').text]\n"
    )
    job = probe_job(
        PROBE,
        "function.Single",
        garak_config={"run": {"generations": 1}, "plugins": {"target_name": "caller#answer"}},
        target_patience_seconds=1.0,
    )
    result = warm.run("probe", tmp_path, job, {"PYTHONPATH": str(tmp_path)}).result
    assert (result["reason"], result["class"]) == ("TARGET_UNREACHABLE", "backpressure")
