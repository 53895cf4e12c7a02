"""Kind "report": garak's own writer makes the digest line and the page from a report's skeleton.

The writer reads only the setup, init, payload, plugin cache, eval and probe summary lines, so a skeleton of those
gives the same digest as the whole report.
"""

from __future__ import annotations

import ast
import json
import re
import traceback
from pathlib import Path
from typing import Any

from aegis_garak import custom
from aegis_garak.events import Events
from aegis_garak.protocol import Json
from aegis_garak.reasons import Failure, JobFailed, Reason

# garak writes every report line with json.dumps of a dict that begins with these keys (evaluators/base.py).
_EVALUATED = re.compile(r'\{"entry_type": "eval", "probe": "([a-z][a-z0-9_]*)\.')


def run(job: Json, scratch: Path, events: Events) -> None:
    """Write digest and page, and send the result."""
    skeleton, page, digest_line = (Path(job[name]) for name in ("skeleton", "report_html", "digest"))
    name = job.get("reportfile_name", skeleton.name)
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("reportfile_name must be a file's name")
    sources = {one.name: one.path for one in custom.parse(job)}
    setup = _setup_line(skeleton)
    if setup is None:
        raise JobFailed(Failure(Reason.REPORT_FAILED, "the skeleton has no setup line"))
    try:
        _describe_custom(skeleton, sources)
        digest = _digest(_named(skeleton, scratch, name), setup)
        html = _page(digest)
    except (JobFailed, MemoryError):
        raise
    except Exception as error:
        traceback.print_exc()
        raise JobFailed(Failure(Reason.REPORT_FAILED, type(error).__name__)) from error
    _write(digest_line, json.dumps(digest, ensure_ascii=False) + "\n")
    _write(page, html)
    events.result("made", report_html=str(page), digest=str(digest_line))


def _setup_line(skeleton: Path) -> Json | None:
    with open(skeleton, encoding="utf-8") as file:
        for line in file:
            if line.startswith('{"entry_type": "start_run setup"') or '"start_run setup"' in line[:200]:
                entry: Json = json.loads(line)
                return entry
    return None


def _describe_custom(skeleton: Path, sources: dict[str, Path]) -> None:
    """The writer imports each probe's module for its docstring; of a custom one it gets that, and none of its code."""
    for name in sorted(_modules(skeleton)):
        if custom.is_taken(name):
            continue
        docstring = _docstring(sources[name]) if name in sources else None
        custom.describe(name, docstring or f"Custom probes {name}")


def _modules(skeleton: Path) -> set[str]:
    with open(skeleton, encoding="utf-8") as file:
        found = (_EVALUATED.match(line) for line in file)
        return {match[1] for match in found if match}


def _docstring(source: Path) -> str | None:
    try:
        return ast.get_docstring(ast.parse(source.read_bytes()))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _named(skeleton: Path, scratch: Path, name: str) -> str:
    """The digest's meta.reportfile is the name of the file that the writer reads, so it reads a link of that name."""
    directory = scratch / "report"
    directory.mkdir(mode=0o700)
    link = directory / name
    link.symlink_to(skeleton)
    return str(link)


def _digest(report: str, setup: Json) -> Json:
    from garak import _config

    _config.load_base_config()
    _config.load_config()
    # In a run the writer sees the run's own options; here they come from the report's setup line.
    for key, value in setup.items():
        section, _, name = key.partition(".")
        if section == "reporting":
            setattr(_config.reporting, name, value)
    from garak.analyze import report_digest

    digest: Json = report_digest.build_digest(report)
    if not digest["eval"]:
        # garak would write a blank page and call it a success.
        raise JobFailed(Failure(Reason.REPORT_FAILED, "nothing in the report was evaluated"))
    return digest


def _page(digest: Json) -> str:
    from garak.analyze import report_digest

    html: Any = report_digest.build_html(digest)
    if not html.lstrip().startswith("<"):
        # Without its template garak falls back to plain JSON.
        raise JobFailed(Failure(Reason.REPORT_FAILED, "garak's page template is missing"))
    return str(html)


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
