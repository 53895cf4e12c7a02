"""The trial of a custom module: is it Python, does it load, what is in it, and does that work?

Runs in the process that `check` forked for it.
"""

from __future__ import annotations

import ast
import json
import os
import random
import resource
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from aegis_garak import custom
from aegis_garak.protocol import Json

MAX_TEXT = 500
"""Characters of a message or a description."""
_MAX_NAMES = 50
"""Tags and detectors that are named of one class."""
_MAX_BYTES = 512 * 1024
"""All findings together."""
_SEED = 0


class TimeIsUpError(BaseException):
    """The check's time is over; a BaseException, as modules catch Exception."""


class StopError(Exception):
    """Nothing more can be found out."""


def problem(reason: str, message: str, line: int = 0, column: int = 0, severity: str = "error") -> Json:
    """A problem in the contract's words (Problem)."""
    return {
        "severity": severity,
        "reason": reason,
        "message": text(message),
        "line": max(0, line),
        "column": max(0, column),
    }


def text(value: object, limit: int = MAX_TEXT) -> str:
    """Text that every database and every JSON reader takes: no lone surrogates, no control characters."""
    if not isinstance(value, str):
        return ""
    cut = value[:limit].encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else " " for c in cut)


class Findings:
    """Says what is found, as it is found: nothing is lost when the process ends."""

    def __init__(self, pipe: int, max_problems: int, max_classes: int) -> None:
        """Write JSON lines to `pipe`."""
        self._pipe = pipe
        self._left = {"problem": max_problems, "class": max_classes}
        self._bytes_left = _MAX_BYTES

    def stage(self, words: str) -> None:
        """What is tried next, for when it does not come back."""
        self._send({"stage": text(words, 200)})

    def problem(self, reason: str, message: str, line: int = 0, column: int = 0, severity: str = "error") -> None:
        """A problem; those over the limit are dropped."""
        self._bounded("problem", problem(reason, message, line, column, severity))

    def custom_class(self, facts: Json) -> None:
        """A class, complete."""
        self._bounded("class", facts)

    def fenced(self) -> None:
        """From here on the module's doings are its own."""
        self._send({"fenced": True})

    def done(self) -> None:
        """Everything was looked at."""
        self._send({"done": True})

    def _bounded(self, kind: str, body: Json) -> None:
        size = len(json.dumps(body))
        if self._left[kind] > 0 and size <= self._bytes_left:
            self._left[kind] -= 1
            self._bytes_left -= size
            self._send({kind: body})

    def _send(self, said: Json) -> None:
        data = json.dumps(said).encode() + b"\n"
        while data:
            data = data[os.write(self._pipe, data) :]


def examine(source: custom.Source, findings: Findings) -> None:
    """Find out all that can be found out."""
    with suppress(StopError), failures(findings, source, "CHECK_CRASHED", "the check"):
        _examine(source, findings)


def _examine(source: custom.Source, findings: Findings) -> None:
    from aegis_garak.check_plugins import examine_plugins

    _name(source, findings)
    tree = _syntax(source, findings)
    _docstring(tree, findings)
    module = _import(source, findings)
    examine_plugins(source, module, _class_lines(tree), findings)


def _name(source: custom.Source, findings: Findings) -> None:
    wrong = custom.name_problem(source.name)
    if wrong is not None:
        findings.problem(*wrong)
        raise StopError


def _syntax(source: custom.Source, findings: Findings) -> ast.Module:
    findings.stage("while its syntax was read")
    content = source.path.read_bytes()
    if len(content) > custom.MAX_SOURCE_BYTES:
        findings.problem("SOURCE_TOO_LARGE", f"a source has at most {custom.MAX_SOURCE_BYTES} bytes")
        raise StopError
    try:
        content.decode()
    except UnicodeDecodeError as error:
        findings.problem("SYNTAX_ERROR", "a source is UTF-8 text", *_place(content, error.start))
        raise StopError from None
    if (zero := content.find(b"\0")) >= 0:
        findings.problem("SYNTAX_ERROR", "a source holds no NUL", *_place(content, zero))
        raise StopError
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            compile(content, str(source.path), "exec", dont_inherit=True)
            tree = ast.parse(content)
    except SyntaxError as error:
        findings.problem("SYNTAX_ERROR", error.msg, error.lineno or 0, error.offset or 0)
        raise StopError from None
    except (MemoryError, RecursionError):
        findings.problem("SYNTAX_ERROR", "it is nested too deeply to be read")
        raise StopError from None
    for line, message in sorted({(warning.lineno, str(warning.message)) for warning in warned}):
        findings.problem("SYNTAX_WARNING", message, line, severity="warning")
    return tree


def _place(content: bytes, offset: int) -> tuple[int, int]:
    before = content[:offset]
    return before.count(b"\n") + 1, offset - (before.rfind(b"\n") + 1) + 1


def _docstring(tree: ast.Module, findings: Findings) -> None:
    if not ast.get_docstring(tree):
        message = "the module has no docstring: reports describe it by that"
        findings.problem("DOCSTRING_MISSING", message, 1, severity="warning")


def _class_lines(tree: ast.Module) -> dict[str, int]:
    return {node.name: node.lineno for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _import(source: custom.Source, findings: Findings) -> ModuleType:
    from aegis_garak import survey_plugin

    findings.stage("before it was imported")
    survey_plugin.base_configuration()
    findings.stage("while it was imported")
    random.seed(_SEED)
    module: ModuleType | None = None
    with failures(findings, source, "IMPORT_FAILED", "the module"):
        custom.find([source])
        module = custom.load(source.name)
        custom.register(module)
    if module is None:
        raise StopError
    return module


@contextmanager
def failures(
    findings: Findings, source: custom.Source, reason: str, what: str, line: int = 0, column: int = 0
) -> Iterator[None]:
    """Whatever is raised inside is a finding; its place is where the module's own code was, else `line`."""
    try:
        yield
    except StopError:
        raise
    except BaseException as error:
        place = line_of(error, source) or line
        origin = _origin(error)
        if isinstance(origin, TimeIsUpError) or isinstance(error, TimeIsUpError):
            findings.problem("CHECK_TIMED_OUT", f"{what} took too long", place)
            raise StopError from None
        if isinstance(origin, MemoryError):
            _out_of_memory(error)
            findings.problem("OUT_OF_MEMORY", f"{what} takes more memory than a check may", place)
            raise StopError from None
        if isinstance(origin, SyntaxError) and origin.filename == str(source.path):
            findings.problem("SYNTAX_ERROR", origin.msg, origin.lineno or 0, origin.offset or 0)
        elif isinstance(origin, SystemExit | KeyboardInterrupt | GeneratorExit):
            findings.problem("CHECK_CRASHED", f"{what} ends its process ({type(origin).__name__})", place)
        else:
            findings.problem(reason, f"{what}: {explained(origin)}", place, column)


def explained(error: BaseException) -> str:
    """The exception's type and words. They are the module's own, or garak's about the module."""
    try:
        words = str(error)
    except Exception:  # its __str__ is the module's code too
        words = ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _origin(error: BaseException) -> BaseException:
    """What happened first: garak wraps exceptions in its own."""
    seen = 0
    while error.__cause__ is not None and seen < 32:
        error = error.__cause__
        seen += 1
    return error


def line_of(error: BaseException | None, source: custom.Source) -> int:
    """The line of the module's own code that ran last when the error was raised; 0 when there is none."""
    path = str(source.path)
    seen = 0
    while error is not None and seen < 32:
        lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == path]
        if lines:
            return lines[-1]
        error = error.__cause__ or error.__context__
        seen += 1
    return 0


def _out_of_memory(error: BaseException) -> None:
    """Make room to speak: a little more memory, and what the failed code held."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    traceback.clear_frames(error.__traceback__)


def class_facts(kind: str, plugin: type[Any], name: str) -> Json:
    """A class in the contract's words (CustomClass), without what only an instance knows."""
    described = text(getattr(plugin, "description", None)) or text((plugin.__doc__ or "").split("\n")[0])
    tier = getattr(plugin, "tier", 0)
    return {
        "kind": kind,
        "name": name,
        "description": described,
        "goal": text(getattr(plugin, "goal", "")),
        "tags": names(getattr(plugin, "tags", [])),
        "lang": text(getattr(plugin, "lang" if kind == "probe" else "lang_spec", "")),
        "tier": int(tier) if isinstance(tier, int) and 0 <= tier < 100 else 0,
        "active": getattr(plugin, "active", False) is True,
        "primary_detector": "",
        "extended_detectors": [],
        "prompts": 0,
    }


def names(values: object) -> list[str]:
    """Names in a list, bounded."""
    if not isinstance(values, list | tuple | set | frozenset):
        return []
    found = [text(value, 200) for value in values if isinstance(value, str)]
    return (sorted(found) if isinstance(values, set | frozenset) else found)[:_MAX_NAMES]
