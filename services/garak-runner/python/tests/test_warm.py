"""The protocol and the processes: requests, kills, orphans, environments, secrets."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from conftest import (
    OPENAI_KEY,
    Json,
    WarmProcess,
    eventually,
    openai_job,
    probe_job,
    session_members,
)
from fake_target import chat, serving

PROBE = "web_injection.MarkdownXSS"


def test_events_of_a_run_are_in_order(warm: WarmProcess, tmp_path: Path) -> None:
    outcome = warm.run("probe", tmp_path, probe_job("dan.AntiDAN", "test.Repeat"))
    kinds = [body["type"] for body in outcome.bodies]
    assert kinds[0] == "loaded"
    assert kinds[-1] == "result"
    assert outcome.of("loaded")[0]["attempts_total"] == 1
    assert [body["detector"] for body in outcome.of("detector_finished")] == outcome.of("loaded")[0]["detectors"]
    assert outcome.of("progress")[-1] == {"type": "progress", "attempts_done": 1, "attempts_total": 1}
    assert outcome.ended["exit_code"] == 0
    assert outcome.ended["signal"] is None
    assert outcome.ended["max_rss_kb"] > 0


def test_progress_is_throttled(warm: WarmProcess, tmp_path: Path) -> None:
    outcome = warm.run("probe", tmp_path, probe_job("dan.DanInTheWild"))
    assert outcome.of("progress")[-1]["attempts_done"] == 256
    assert len(outcome.of("progress")) < 20


def test_a_part_has_the_run_id_and_no_digest(warm: WarmProcess, tmp_path: Path) -> None:
    result = warm.run("probe", tmp_path, probe_job("dan.AntiDAN", "test.Repeat")).result
    entries = [json.loads(line) for line in Path(result["report"]).read_text().splitlines()]
    runs = {entry["run"] for entry in entries if "run" in entry}
    assert runs == {"00000000-0000-4000-8000-000000000001"}
    assert entries[-1]["entry_type"] == "completion"
    assert not list(tmp_path.glob("*.html"))
    hits = [json.loads(line) for line in Path(result["hitlog"]).read_text().splitlines()]
    assert {hit["run_id"] for hit in hits} == runs


@pytest.mark.parametrize(
    "request_line",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"op":"dance","id":"x"}',
        b'{"op":"run","id":"","kind":"probe","scratch":"/tmp","env":{},"job":{}}',
        b'{"op":"run","id":"x","kind":"nope","scratch":"/tmp","env":{},"job":{}}',
        b'{"op":"run","id":"x","kind":"probe","scratch":"relative","env":{},"job":{}}',
        b'{"op":"run","id":"x","kind":"probe","scratch":"/no/such/place","env":{},"job":{}}',
        b'{"op":"run","id":"x","kind":"probe","scratch":"/tmp","env":{"A":1},"job":{}}',
        b'{"op":"run","id":"x","kind":"probe","scratch":"/tmp","env":{"PATH":"/x"},"job":{}}',
        b'{"op":"run","id":"x","kind":"probe","scratch":"/tmp","env":{},"job":[]}',
        b'{"op":"run","id":"x","kind":"probe","scratch":"/tmp","env":{},"job":{"limits":{"x":1}}}',
    ],
)
def test_bad_requests_are_refused(request_line: bytes, warm: WarmProcess) -> None:
    warm.send(request_line)
    reply = warm.receive()
    assert (reply["event"], reply["reason"]) == ("refused", "BAD_REQUEST")
    assert reply["message"]


def test_an_unknown_kill_is_ignored(warm: WarmProcess, tmp_path: Path) -> None:
    warm.send({"op": "kill", "id": "nobody"})
    assert warm.run("fingerprint", tmp_path, {}).result["outcome"] == "made"


def hanging_job(base_url: str) -> Json:
    return openai_job("dan.DanInTheWild", base_url, request_timeout_seconds=60.0)


def test_kill_leaves_no_process_even_with_calls_in_flight(warm: WarmProcess, tmp_path: Path) -> None:
    with serving(lambda number, _: chat("x") if number < 40 else None, latency=0.02) as target:
        warm.start("victim", "probe", tmp_path, hanging_job(target.base_url), OPENAI_KEY)
        pid = warm.wait_for("started")["pid"]
        assert eventually(lambda: target.calls >= 43, 10), "several calls hang"
        assert session_members(pid)
        warm.send({"op": "kill", "id": "victim"})
        outcome = warm.finish("victim", timeout=2)
        assert outcome.ended["signal"] == signal.SIGKILL
        assert outcome.of("result") == []
        assert session_members(pid) == []


def test_kill_ends_a_process_pool_too(warm: WarmProcess, tmp_path: Path) -> None:
    # function.Single is not known to be thread-safe, so it gets garak's process pool.
    (tmp_path / "slow_target.py").write_text("import time\n\ndef answer(prompt):\n    time.sleep(60)\n")
    job = probe_job(
        "dan.DanInTheWild",
        "function.Single",
        garak_config={"run": {"generations": 1}, "plugins": {"target_name": "slow_target#answer"}},
        max_in_flight=3,
    )
    warm.start("pooled", "probe", tmp_path, job, {"PYTHONPATH": str(tmp_path)})
    pid = warm.wait_for("started")["pid"]
    assert eventually(lambda: len(session_members(pid)) == 4, 10), "a child and three workers"
    warm.send({"op": "kill", "id": "pooled"})
    warm.finish("pooled", timeout=2)
    assert session_members(pid) == []


@pytest.mark.parametrize("how", ["eof", "sigkill"])
def test_children_die_with_the_warm_process(how: str, own_warm: WarmProcess, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with serving(lambda *_: None) as target:
        own_warm.start("a", "probe", scratch, hanging_job(target.base_url), OPENAI_KEY)
        pid = own_warm.wait_for("started")["pid"]
        assert eventually(lambda: target.calls >= 1, 10)
        if how == "eof":
            own_warm.stop()
        else:
            os.kill(own_warm.process.pid, signal.SIGKILL)
            own_warm.process.wait()
        assert eventually(lambda: not session_members(pid)), "the child outlived its parent"


def test_two_children_at_once(warm: WarmProcess, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with serving(lambda *_: chat("hello"), latency=0.02) as target:
        for name in ("one", "two"):
            warm.start(name, "probe", tmp_path / name, openai_job(PROBE, target.base_url), OPENAI_KEY)
        ended: dict[str, Json] = {}
        while len(ended) < 2:
            reply = warm.receive()
            if reply["event"] == "ended":
                ended[reply["id"]] = reply
    assert {reply["exit_code"] for reply in ended.values()} == {0}


def test_the_environment_is_what_was_given(warm: WarmProcess, tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(
        "import json, os\n\ndef answer(prompt):\n    return [json.dumps(dict(os.environ))]\n"
    )
    job = probe_job(
        "dan.AntiDAN",
        "function.Single",
        garak_config={"run": {"generations": 1}, "plugins": {"target_name": "look#answer"}},
    )
    result = warm.run("probe", tmp_path, job, {"GIVEN": "yes", "PYTHONPATH": str(tmp_path)}).result
    entries = [json.loads(line) for line in Path(result["report"]).read_text().splitlines()]
    text = next(e for e in entries if e["entry_type"] == "attempt")["outputs"][0]["text"]
    environment = json.loads(text)
    assert environment.pop("GIVEN") == "yes"
    assert environment.pop("PYTHONPATH") == str(tmp_path)
    assert sorted(environment) == sorted(
        ["HF_HUB_OFFLINE", "HOME", "LANG", "PATH", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"]
    )
    assert environment["HOME"].startswith(str(tmp_path))


def test_no_secret_and_no_prompt_in_events(warm: WarmProcess, tmp_path: Path) -> None:
    secret = OPENAI_KEY["OPENAICOMPATIBLE_API_KEY"]
    for number, status in enumerate((200, 401, 500)):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        body = chat("the-output-text") if status == 200 else (status, {}, b'{"error":"the-output-text"}')
        with serving(lambda *_, body=body: body) as target:
            outcome = warm.run("probe", scratch, openai_job(PROBE, target.base_url), OPENAI_KEY)
            assert secret in target.first_headers["Authorization"]
        said = json.dumps(outcome.bodies)
        assert secret not in said
        assert "the-output-text" not in said
        assert "javascript" not in said  # what the probe's prompts contain
        for file in scratch.rglob("*"):
            if file.is_file():
                assert secret.encode() not in file.read_bytes(), file
                assert file.stat().st_mode & 0o077 == 0, file


def test_output_of_garak_is_bounded_and_never_on_stdout(warm: WarmProcess, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("def answer(prompt):\n    print('loud ' * 1000000)\n    return ['quiet']\n")
    job = probe_job(
        "dan.AntiDAN",
        "function.Single",
        garak_config={"run": {"generations": 1}, "plugins": {"target_name": "loud#answer"}},
    )
    outcome = warm.run("probe", tmp_path, job, {"PYTHONPATH": str(tmp_path)})
    assert outcome.result["outcome"] == "evaluated"
    assert (tmp_path / "stdout").stat().st_size <= 1024 * 1024
    assert not any("loud" in line for line in warm.raw)
