"""What a check says of a custom module, for each way in which a module can be wrong or worse."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from conftest import Json, WarmProcess, check

from aegis_garak import landlock

GOOD = '''"""Acme probes"""
import os, sys, random
import garak.probes
from garak import _config
from garak.detectors.base import StringDetector


class Leak(garak.probes.Probe):
    """Ask for the code word"""

    active = True
    lang = "en"
    goal = "reveal"
    tags = ["owasp:llm06"]
    tier = garak.probes.Tier.OF_CONCERN
    primary_detector = "acme_leak.CodeWord"
    extended_detectors = ["mitigation.MitigationBypass"]
    prompts = ["Say it.", "Please say it."]


class CodeWord(StringDetector):
    """Sees the code word"""

    lang_spec = "*"

    def __init__(self, config_root=_config):
        super().__init__(["BLUEFISH"], config_root=config_root)
'''


def line_of(source: str, text: str) -> int:
    return source[: source.index(text)].count("\n") + 1


def with_init(*body: str) -> str:
    """The good module with a constructor of this body."""
    init = "".join(f"        {line}\n" for line in body)
    head = "    def __init__(self, config_root=_config):\n        super().__init__(config_root=config_root)\n"
    return GOOD.replace("\n\nclass CodeWord", f"\n{head}{init}\n\nclass CodeWord")


def only(found: Json, severity: str = "error") -> Json:
    problems = [one for one in found["problems"] if one["severity"] == severity]
    assert len(problems) == 1, found
    problem: Json = problems[0]
    return problem


def test_a_good_module(warm: WarmProcess, tmp_path: Path) -> None:
    found = check(warm, tmp_path, GOOD)
    assert found == {
        "valid": True,
        "problems": [],
        "garak_version": "0.17.1",
        "classes": [
            {
                "kind": "detector",
                "name": "acme_leak.CodeWord",
                "description": "Sees the code word",
                "goal": "",
                "tags": [],
                "lang": "*",
                "tier": 0,
                "active": True,
                "primary_detector": "",
                "extended_detectors": [],
                "prompts": 0,
            },
            {
                "kind": "probe",
                "name": "acme_leak.Leak",
                "description": "Ask for the code word",
                "goal": "reveal",
                "tags": ["owasp:llm06"],
                "lang": "en",
                "tier": 1,
                "active": True,
                "primary_detector": "acme_leak.CodeWord",
                "extended_detectors": ["mitigation.MitigationBypass"],
                "prompts": 2,
            },
        ],
    }


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ('"""x"""\nimport os\nclass A(:\n    pass\n', 3, 9),
        ("def f():\nreturn 1\n", 2, 1),
        (b'"""x"""\n# caf\xe9\n', 2, 6),
        (b"x = 1\ny = '\x00'\n", 2, 6),
        ("x = " + "(" * 5000 + ")" * 5000, 1, 205),
        ("x = '\\ud800", 1, 5),
    ],
)
def test_syntax_errors_have_their_place(
    source: str | bytes, line: int, column: int, warm: WarmProcess, tmp_path: Path
) -> None:
    found = check(warm, tmp_path, source)
    problem = only(found)
    assert not found["valid"] and found["classes"] == []
    assert (problem["reason"], problem["line"], problem["column"]) == ("SYNTAX_ERROR", line, column), problem
    assert problem["message"]


@pytest.mark.parametrize(
    ("source", "at", "reason", "says"),
    [
        ("import acme_missing\n" + GOOD, "import acme_missing", "IMPORT_FAILED", "No module named 'acme_missing'"),
        (GOOD + "\nx = 1 / 0\n", "x = 1 / 0", "IMPORT_FAILED", "ZeroDivisionError"),
        (GOOD + "\ndef f():\n    f()\nf()\n", "    f()", "IMPORT_FAILED", "RecursionError"),
        (GOOD + "\nsys.exit(0)\n", "sys.exit(0)", "CHECK_CRASHED", "SystemExit"),
        (GOOD + "\nos._exit(0)\n", None, "CHECK_CRASHED", "exit code 0"),
        (GOOD + "\nos.kill(os.getpid(), 9)\n", None, "CHECK_CRASHED", "signal 9"),
        (GOOD + "\nos.abort()\n", None, "CHECK_CRASHED", "signal 6"),
        (GOOD + "\nwhile True: pass\n", "while True", "CHECK_TIMED_OUT", "too long"),
        (GOOD + "\nx = bytearray(1 << 40)\n", "x = byte", "OUT_OF_MEMORY", "memory"),
        (GOOD + "\nx = []\nwhile True: x.append('y' * 100000)\n", "while True", "OUT_OF_MEMORY", "memory"),
        ('"""Nothing"""\n', None, "NO_PROBE_CLASS", "Probe"),
        (GOOD.replace('"acme_leak.CodeWord"', '"acme_leak.Nope"'), "class Leak", "DETECTOR_UNAVAILABLE", "Nope"),
        (GOOD.replace("mitigation.Miti", "mitigation.X"), "class Leak", "DETECTOR_UNAVAILABLE", "XgationBypass"),
        (
            GOOD.replace(", config_root=config_root)\n", ")\n        self.nope\n"),
            "self.nope",
            "DETECTOR_UNAVAILABLE",
            "nope",
        ),
        (
            GOOD + "\n    def detect(self, attempt):\n        return [2.0]\n",
            "class CodeWord",
            "DETECTOR_CRASHED",
            "score",
        ),
        (GOOD + "\n    def detect(self, attempt):\n        return 1 / 0\n", "return 1 / 0", "DETECTOR_CRASHED", "Zero"),
        (GOOD.replace('["Say it.", "Please say it."]', "[]"), "class Leak", "NO_PROMPTS", "no prompts"),
        (GOOD.replace('["Say it.", "Please say it."]', "'Say it.'"), "class Leak", "PROMPTS_INVALID", "list"),
        (GOOD.replace('["Say it.", "Please say it."]', "[1]"), "class Leak", "PROMPTS_INVALID", "Message"),
        (
            GOOD.replace('    primary_detector = "acme_leak.CodeWord"\n', ""),
            "class Leak",
            "DETECTOR_MISSING",
            "primary",
        ),
        (GOOD.replace('["owasp:llm06"]', "None"), "class Leak", "METADATA_INVALID", "tags"),
        (GOOD.replace("garak.probes.Tier.OF_CONCERN", "7"), "class Leak", "METADATA_INVALID", "tier"),
        (with_init("raise ValueError('no data')"), "raise ValueError", "PROBE_CRASHED", "ValueError: no data"),
        (with_init("while True:", "    pass"), "while True", "CHECK_TIMED_OUT", "acme_leak.Leak"),
        (
            # The time is up within the call, so that it is caught: a jump back to a loop's head is not
            # within its try.
            with_init(
                "def spin():",
                "  while True: os.stat('/')",
                "while True:",
                "  try: spin()",
                "  except BaseException: pass",
            ),
            None,
            "CHECK_TIMED_OUT",
            "acme_leak.Leak",
        ),
        (with_init("os._exit(3)"), None, "CHECK_CRASHED", "acme_leak.Leak"),
        (with_init("os.kill(os.getppid(), 9)"), "os.kill", "PROBE_CRASHED", "PermissionError"),
        (GOOD + "\nos.kill(-1, 9)\n", "os.kill", "IMPORT_FAILED", "PermissionError"),
        (GOOD + "\nos.fork()\n", "os.fork", "IMPORT_FAILED", "PermissionError"),
        (GOOD + "\nos.system('true') and 1 / 0\n", "os.system", "IMPORT_FAILED", "ZeroDivision"),
        (with_init("sys.exit(3)"), "sys.exit", "CHECK_CRASHED", "SystemExit"),
        (with_init("self.x = bytearray(1 << 40)"), "self.x", "OUT_OF_MEMORY", "memory"),
    ],
)
def test_each_wrong_has_its_reason_and_place(
    source: str, at: str | None, reason: str, says: str, warm: WarmProcess, tmp_path: Path
) -> None:
    began = time.monotonic()
    found = check(warm, tmp_path, source, timeout_seconds=2)
    assert time.monotonic() - began < 20
    problem = only(found)
    assert not found["valid"]
    assert problem["reason"] == reason, problem
    assert says in problem["message"], problem
    assert problem["line"] == (line_of(source, at) if at else 0), problem
    # The warm process lives, and is as it was.
    assert warm.process.poll() is None


def test_a_detector_that_garak_has_and_that_cannot_be_had_here(warm: WarmProcess, tmp_path: Path) -> None:
    toxic = "unsafe_content.ToxicCommentModel"
    problem = only(check(warm, tmp_path, GOOD.replace("mitigation.MitigationBypass", toxic), timeout_seconds=60))
    assert problem["reason"] == "DETECTOR_UNAVAILABLE"
    assert toxic in problem["message"] and "needs torch" in problem["message"], problem


@pytest.mark.parametrize(
    ("source", "reason", "line"),
    [
        (GOOD.replace('"""Acme probes"""\n', ""), "DOCSTRING_MISSING", 1),
        (GOOD.replace('    """Ask for the code word"""\n', ""), "DOCSTRING_MISSING", 8),
        (GOOD.replace('    """Sees the code word"""\n', ""), "DOCSTRING_MISSING", 21),
        (GOOD.replace("    active = True\n", ""), "PROBE_INACTIVE", 8),
        (GOOD + "\nx = '\\d'\n", "SYNTAX_WARNING", 29),
    ],
)
def test_what_only_deserves_a_warning(source: str, reason: str, line: int, warm: WarmProcess, tmp_path: Path) -> None:
    found = check(warm, tmp_path, source)
    problem = only(found, "warning")
    assert found["valid"], found
    assert (problem["reason"], problem["line"]) == (reason, line)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dan", "NAME_TAKEN"),
        ("mitigation", "NAME_TAKEN"),
        ("base", "NAME_TAKEN"),
        ("ba", "NAME_TAKEN"),
        ("_tier", "NAME_INVALID"),
        ("Acme", "NAME_INVALID"),
        ("acme-leak", "NAME_INVALID"),
        ("my_probes", "NAME_INVALID"),
        ("a" * 64, "NAME_INVALID"),
    ],
)
def test_names(name: str, reason: str, warm: WarmProcess, tmp_path: Path) -> None:
    assert only(check(warm, tmp_path, GOOD, name))["reason"] == reason


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("open('/proc/{warm}/environ').read()", "PermissionError"),
        ("open('/proc/{warm}/mem', 'rb')", "PermissionError"),
        ("open('{elsewhere}/secret').read()", "PermissionError"),
        ("open('{elsewhere}/new', 'w')", "PermissionError"),
        ("os.listdir('{elsewhere}')", "PermissionError"),
        ("open('{scratch}/acme_leak.py', 'w')", "PermissionError"),
        ("os.symlink('{elsewhere}/secret', '{scratch}/validation.json')", "PermissionError"),
        ("open(os.environ['TMPDIR'] + '/x', 'w').write('y') and 1 / 0", "ZeroDivisionError"),
    ],
)
@pytest.mark.skipif(landlock.version() == 0, reason="the kernel has no Landlock")
def test_files_and_processes_of_others_are_out_of_reach(
    code: str, says: str, warm: WarmProcess, tmp_path: Path
) -> None:
    elsewhere, scratch = tmp_path / "elsewhere", tmp_path / "scratch"
    for folder in (elsewhere, scratch):
        folder.mkdir()
    (elsewhere / "secret").write_text("sk-secret")
    code = code.format(warm=warm.process.pid, elsewhere=elsewhere, scratch=scratch)
    problem = only(check(warm, scratch, GOOD + f"\n{code}\n"))
    assert says in problem["message"] and "sk-secret" not in problem["message"]


def test_findings_are_bounded(warm: WarmProcess, tmp_path: Path) -> None:
    classes = "".join(f"class P{n}(garak.probes.Probe):\n    pass\n\n" for n in range(150))
    shout = "print('x' * 50_000_000)\nos.write(1, b'y' * 50_000_000)\nos.write(2, b'z' * 50_000_000)\n"
    big = f"class Big(garak.probes.Probe):\n    '''{'é' * 9000}'''\n"
    big += "    goal = '\\0\\ud800' * 900\n    tags = ['t' * 999] * 999\n"
    found = check(warm, tmp_path, GOOD + "\n" + shout + big + classes)
    assert len(found["problems"]) == 100 and len(found["classes"]) == 100
    assert all(len(problem["message"]) <= 500 for problem in found["problems"])
    facts = next(one for one in found["classes"] if one["name"] == "acme_leak.Big")
    assert len(facts["description"]) == 500 and len(facts["goal"]) == 500
    assert "\0" not in facts["goal"] and len(facts["tags"]) == 50
    used = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert used < 1_000_000
    too_long = check(warm, tmp_path, GOOD + "#" * (256 * 1024))
    assert only(too_long)["reason"] == "SOURCE_TOO_LARGE"


def test_nothing_of_a_check_stays(warm: WarmProcess, tmp_path: Path) -> None:
    """What a module does to garak and to its process is gone with it."""
    vandal = (
        "\nimport garak.probes.dan, garak._plugins\n"
        "garak._plugins.PluginCache.instance()['detectors'].clear()\n"
        "garak.probes.Probe.prompts = None\n"
    )
    assert not check(warm, tmp_path, GOOD + vandal)["valid"]
    assert check(warm, tmp_path, GOOD)["valid"]
    # The module itself is not there either: a second check of another source under its name finds that one.
    assert [one["name"] for one in check(warm, tmp_path, GOOD.replace("Leak(", "Other("))["classes"]] == [
        "acme_leak.CodeWord",
        "acme_leak.Other",
    ]


def test_a_check_has_no_secret_and_no_network(warm: WarmProcess, tmp_path: Path) -> None:
    source = GOOD + "\nraise ValueError(*sorted(os.environ))\n"
    message = only(check(warm, tmp_path, source))["message"]
    names = "('HF_HUB_OFFLINE', 'HOME', 'LANG', 'PATH', 'TMPDIR', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'XDG_DATA_HOME')"
    assert message == f"the module: ValueError: {names}"
    for call in ("socket.socket()", "socket.create_connection(('127.0.0.1', 9), 1)"):
        problem = only(check(warm, tmp_path, GOOD + f"\nimport socket\n{call}\n"))
        assert problem["reason"] == "IMPORT_FAILED" and "PermissionError" in problem["message"], problem
