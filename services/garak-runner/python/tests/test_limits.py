"""What a job may use, as far as its own process sees to it. The runner's tests have the rest."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from conftest import OPENAI_KEY, REST_KEY, Json, Outcome, WarmProcess, eventually, openai_job, probe_job, rest_config
from fake_target import DRIP, chat, serving

PROBE = "web_injection.MarkdownXSS"
MODULE = '''"""Misbehaves."""
import garak.probes


class Bad(garak.probes.Probe):
    """Misbehave"""

    lang = "en"
    goal = "use more than there is"
    primary_detector = "always.Pass"
    tier = garak.probes.Tier.OF_CONCERN
    prompts = ["x"]

    def probe(self, generator):
        BODY
        return super().probe(generator)
'''


def bad(scratch: Path, code: str) -> Json:
    """The job of a custom probe that does this before it asks anything."""
    path = scratch / "acme_bad.py"
    path.write_text(MODULE.replace("BODY", "\n        ".join(code.splitlines())))
    return probe_job("acme_bad.Bad", "test.Repeat", custom_probes={"acme_bad": str(path)})


def run(warm: WarmProcess, scratch: Path, code: str, **limits: int) -> Outcome:
    return warm.run("probe", scratch, bad(scratch, code) | {"limits": limits})


def test_a_full_disk_is_worth_another_try(warm: WarmProcess, tmp_path: Path) -> None:
    # Every write there ends with ENOSPC.
    (tmp_path / "part.report.jsonl").symlink_to("/dev/full")
    result = warm.run("probe", tmp_path, probe_job(PROBE)).result
    assert (result["reason"], result["class"]) == ("OUT_OF_SPACE", "retryable")


def test_a_report_that_is_too_large_is_not(warm: WarmProcess, tmp_path: Path) -> None:
    result = warm.run("probe", tmp_path, probe_job("dan.DanInTheWild", limits={"file_bytes": 300_000})).result
    assert (result["reason"], result["class"]) == ("OUTPUT_TOO_LARGE", "permanent")
    assert "file_bytes" in result["message"]


def test_processor_time_ends_a_process_with_its_own_signal(warm: WarmProcess, tmp_path: Path) -> None:
    outcome = run(warm, tmp_path, "while True: pass", cpu_seconds=2)
    assert outcome.ended["signal"] == signal.SIGXCPU
    assert outcome.of("result") == []


def test_no_file_left_for_a_connection_is_not_the_targets_fault(warm: WarmProcess, tmp_path: Path) -> None:
    code = "self.held = []\nwhile True:\n    try: self.held.append(open('/dev/null'))\n    except OSError: break"
    with serving(lambda *_: chat("hello")) as target:
        for client, generator, config, key in (
            ("openai", "openai.OpenAICompatible", openai_job(PROBE, target.base_url)["garak_config"], OPENAI_KEY),
            ("rest", "rest.RestGenerator", rest_config(target.base_url), REST_KEY),
        ):
            scratch = tmp_path / client
            scratch.mkdir()
            job = bad(scratch, code) | {"generator": generator, "garak_config": config, "limits": {"open_files": 100}}
            result = warm.run("probe", scratch, job, key).result
            assert (result["reason"], result["class"]) == ("TOO_MANY_OPEN_FILES", "permanent"), (client, result)


@pytest.mark.parametrize("client", ["openai", "rest"])
def test_a_target_that_drips_is_too_slow(client: str, warm: WarmProcess, tmp_path: Path) -> None:
    with serving(lambda *_: DRIP) as target:
        job, key = (
            (openai_job(PROBE, target.base_url), OPENAI_KEY)
            if client == "openai"
            else (probe_job(PROBE, "rest.RestGenerator", garak_config=rest_config(target.base_url)), REST_KEY)
        )
        began = time.monotonic()
        job |= {"request_timeout_seconds": 0.5, "target_patience_seconds": 1.5}
        result = warm.run("probe", tmp_path, job, key).result
    assert (result["reason"], result["class"]) == ("TARGET_UNREACHABLE", "backpressure"), result
    assert "TIMEOUT" in result["message"]
    assert time.monotonic() - began < 15


def test_output_keeps_its_beginning_and_costs_nothing(warm: WarmProcess, tmp_path: Path) -> None:
    code = (
        "import os\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        for _ in range(2000): print('of a fork' * 1000)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "for _ in range(10000): print('loud ' * 200000)\n"
        "os.write(1, b'raw' * 1000)"
    )
    outcome = run(warm, tmp_path, code, file_bytes=4 << 20)
    assert outcome.result["outcome"] == "evaluated", outcome.result
    assert 1000_000 <= (tmp_path / "stdout").stat().st_size <= 1024 * 1024
    assert outcome.ended["cpu_seconds"] < 20


def test_garaks_log_is_rotated_and_short(warm: WarmProcess, tmp_path: Path) -> None:
    code = (
        "import logging\n"
        "logging.debug('a prompt')\n"
        "logging.error('long' * 5_000_000)\n"
        "for number in range(20000): logging.error('message %s of many %s', number, 'x' * 300)"
    )
    outcome = run(warm, tmp_path, code, file_bytes=4 << 20)
    assert outcome.result["outcome"] == "evaluated", outcome.result
    logs = sorted((tmp_path / "home").glob("garak.log*"))
    assert [log.name for log in logs] == ["garak.log", "garak.log.1"]
    assert all(log.stat().st_size <= 1024 * 1024 for log in logs)
    assert "message 19999 of many" in logs[0].read_text()
    assert "a prompt" not in "".join(log.read_text() for log in logs)
    # Nor does the warm process keep one, which nobody would ever take away.
    assert not list(Path(warm.env["XDG_DATA_HOME"]).rglob("garak.log*"))


def test_the_kernel_takes_a_child_before_the_runner(warm: WarmProcess, tmp_path: Path) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    with serving(lambda *_: None) as target:
        warm.start("first", "probe", tmp_path, openai_job(PROBE, target.base_url), OPENAI_KEY)
        pid = warm.wait_for("started")["pid"]
        assert eventually(lambda: target.calls >= 1, 10)
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == max(own, 500)
        assert int(Path(f"/proc/{warm.process.pid}/oom_score_adj").read_text()) == own
        warm.send({"op": "kill", "id": "first"})
        warm.finish("first")


def test_a_flood_of_events_is_slowed_down_and_loses_nothing(warm: WarmProcess, tmp_path: Path) -> None:
    code = (
        "import json, os\n"
        "line = json.dumps({'type': 'later', 'text': 'x' * 100}).encode() + b'\\n'\n"
        "for _ in range(4000): os.write(3, line)"
    )
    began = time.monotonic()
    outcome = run(warm, tmp_path, code)
    assert outcome.result["outcome"] == "evaluated"
    assert len(outcome.of("later")) == 4000
    said = 4000 * len(b'{"type": "later", "text": ""}\n') + 4000 * 100
    assert time.monotonic() - began > said / (8192 * 20) - 1
