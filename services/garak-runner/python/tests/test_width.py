"""How many calls are in flight: never above the limit, wide for a slow target, one for an instant one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import OPENAI_KEY, REST_KEY, WarmProcess, openai_job, probe_job, rest_config
from fake_target import Answer, chat, serving


@pytest.mark.parametrize(("probe", "generations"), [("dan.DanInTheWild", 1), ("goodside.ThreatenJSON", 12)])
def test_a_slow_target_is_called_widely_but_never_above_the_limit(
    probe: str, generations: int, warm: WarmProcess, tmp_path: Path
) -> None:
    with serving(lambda *_: chat("hello"), latency=0.06) as target:
        job = openai_job(probe, target.base_url, generations, max_in_flight=6)
        outcome = warm.run("probe", tmp_path, job, OPENAI_KEY)
        assert outcome.result["outcome"] == "evaluated"
        assert 4 <= target.peak <= 6


def test_many_generations_of_many_prompts_stay_within_the_limit(warm: WarmProcess, tmp_path: Path) -> None:
    with serving(lambda *_: chat("hello"), latency=0.05) as target:
        job = openai_job("web_injection.MarkdownXSS", target.base_url, 5, max_in_flight=3)
        warm.run("probe", tmp_path, job, OPENAI_KEY)
        assert target.calls == 35
        assert 2 <= target.peak <= 3


def test_an_instant_target_is_called_one_at_a_time(warm: WarmProcess, tmp_path: Path) -> None:
    with serving(lambda *_: chat("hello")) as target:
        job = openai_job("dan.DanInTheWild", target.base_url, max_in_flight=16)
        assert warm.run("probe", tmp_path, job, OPENAI_KEY).result["outcome"] == "evaluated"
        assert target.peak == 1


def test_the_next_job_starts_where_the_last_one_ended(warm: WarmProcess, tmp_path: Path) -> None:
    with serving(lambda *_: chat("hello"), latency=0.06) as target:
        for name, probe in (("first", "web_injection.MarkdownXSS"), ("second", "goodside.ThreatenJSON")):
            scratch = tmp_path / name
            scratch.mkdir()
            target.peak = 0
            warm.run("probe", scratch, openai_job(probe, target.base_url, 4, max_in_flight=4), OPENAI_KEY)
        # Four calls only: a job that had to find out for itself would have begun with one.
        assert target.peak == 4


def test_rest_calls_are_widened_and_share_connections(warm: WarmProcess, tmp_path: Path) -> None:
    def respond(_number: int, _prompt: str) -> Answer:
        return 200, {"Content-Type": "application/json"}, b'{"text": "hello"}'

    with serving(respond, latency=0.05) as target:
        job = probe_job(
            "ansiescape.AnsiRaw",
            "rest.RestGenerator",
            garak_config=rest_config(target.base_url),
            max_in_flight=5,
        )
        outcome = warm.run("probe", tmp_path, job, REST_KEY)
        assert outcome.result["outcome"] == "evaluated"
        assert target.calls == 58
        assert 4 <= target.peak <= 5
        assert target.connections <= 5


def test_a_process_pool_stays_within_the_limit(warm: WarmProcess, tmp_path: Path) -> None:
    (tmp_path / "count.py").write_text(
        "import os, time\n\n\ndef answer(prompt):\n    time.sleep(0.01)\n    return [str(os.getpid())]\n"
    )
    job = probe_job(
        "web_injection.MarkdownXSS",
        "function.Single",
        garak_config={"run": {"generations": 3}, "plugins": {"target_name": "count#answer"}},
        max_in_flight=2,
    )
    result = warm.run("probe", tmp_path, job, {"PYTHONPATH": str(tmp_path)}).result
    assert result["outcome"] == "evaluated", result
    entries = [json.loads(line) for line in Path(result["report"]).read_text().splitlines()]
    outputs = [e["outputs"] for e in entries if e["entry_type"] == "attempt" and e["status"] == 2]
    assert len(outputs) == 7
    assert len({output["text"] for three in outputs for output in three}) == 2
