"""garak's own writer on a skeleton."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from conftest import GARAK_PYTHON, WarmProcess, probe_job

NEEDED = ("start_run setup", "init", "payload_init", "plugin_cache", "eval", "probe_summary")


def test_digest_equals_that_of_plain_garak(warm: WarmProcess, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    report = Path(warm.run("probe", part, probe_job("dan.AntiDAN", "test.Repeat")).result["report"])
    lines = [line for line in report.read_text().splitlines() if json.loads(line)["entry_type"] in NEEDED]
    skeleton = tmp_path / "skeleton"
    skeleton.write_text("\n".join(lines) + "\n")

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    page, digest_file = tmp_path / "page.html", tmp_path / "digest.jsonl"
    job = {
        "skeleton": str(skeleton),
        "report_html": str(page),
        "digest": str(digest_file),
        "reportfile_name": "garak.some-scan.report.jsonl",
    }
    assert warm.run("report", scratch, job).result["outcome"] == "made"
    digest = json.loads(digest_file.read_text())
    assert digest["meta"]["reportfile"] == "garak.some-scan.report.jsonl"
    assert page.read_text().lstrip().lower().startswith("<!doctype html")

    command = [GARAK_PYTHON, "-m", "garak.analyze.report_digest", "-w", "-r", str(report)]
    home = {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("DATA", "CONFIG", "CACHE")}
    subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"], **home})
    plain = json.loads(report.read_text().splitlines()[-1])
    assert digest["eval"] == plain["eval"]
    assert digest["technique_intent_matrix"] == plain["technique_intent_matrix"]
    assert set(digest["meta"]) == set(plain["meta"])


def test_nothing_evaluated_is_no_report(warm: WarmProcess, tmp_path: Path) -> None:
    skeleton = tmp_path / "skeleton"
    entries = [
        {"entry_type": "start_run setup", "plugins.target_type": "test.Blank"},
        {"entry_type": "init", "garak_version": "0.17.1", "start_time": "x", "run": "x"},
    ]
    skeleton.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    job = {"skeleton": str(skeleton), "report_html": str(tmp_path / "h"), "digest": str(tmp_path / "d")}
    result = warm.run("report", tmp_path, job).result
    assert (result["outcome"], result["reason"]) == ("not_made", "REPORT_FAILED")
    assert not (tmp_path / "h").exists()


def test_a_missing_skeleton_is_said(warm: WarmProcess, tmp_path: Path) -> None:
    job = {
        "skeleton": str(tmp_path / "none"),
        "report_html": str(tmp_path / "h"),
        "digest": str(tmp_path / "d"),
    }
    assert warm.run("report", tmp_path, job).result["outcome"] == "not_made"
