"""Custom modules: a source file outside garak becomes a module of garak's, in this process alone.

garak looks plugins up by their module's name, `garak.probes.NAME` and `garak.detectors.NAME`, and in its plugin cache.
Both are given to it here, through Python's import hooks and in memory: nothing is written into garak's installation.
One file holds probes and detectors. It is run once; its detector classes are then said to live in `garak.detectors`, as
garak derives a plugin's name from its class.
"""

from __future__ import annotations

import importlib
import inspect
import json
import random
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from aegis_garak.protocol import Json

MAX_SOURCE_BYTES = 256 * 1024
CATEGORIES = ("probes", "detectors")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_BROKEN_ENDS = ("garak", "probes", "detector")
"""garak takes names apart with str.replace("probes.", "") and its like, which would cut these (report_digest.py)."""


@dataclass(frozen=True)
class Source:
    """A custom module: its name within garak, and its file."""

    name: str
    path: Path


def parse(job: Json) -> list[Source]:
    """The job's `custom_probes`, an object of names and absolute paths; raises ValueError."""
    return [source(name, path) for name, path in (job.get("custom_probes") or {}).items()]


def source(name: object, path: object) -> Source:
    """One source; raises ValueError unless the name and the path are what they must be."""
    if not isinstance(name, str) or not isinstance(path, str) or not Path(path).is_absolute():
        raise ValueError("a custom probe has a name and an absolute path")
    problem = name_problem(name)
    if problem is not None:
        raise ValueError(problem[1])
    return Source(name, Path(path))


def name_problem(name: str) -> tuple[str, str] | None:
    """Why no custom module may be called so: (reason, message)."""
    if _NAME.match(name) is None or name.endswith(_BROKEN_ENDS):
        return (
            "NAME_INVALID",
            "a name is 1 to 63 of a-z, 0-9 and underscore, begins with a letter, "
            f"and ends in none of {', '.join(_BROKEN_ENDS)}",
        )
    if is_taken(name):
        return "NAME_TAKEN", f"garak has a module {name} itself"
    return None


def is_taken(name: str) -> bool:
    """Whether garak has a module of probes or detectors that is called so.

    What "base" begins with counts too: garak takes such a module for its own base classes (PluginCache.plugin_info).
    """
    import garak

    package = Path(str(garak.__file__)).parent
    paths = (package / category / file for category in CATEGORIES for file in (name, f"{name}.py"))
    return "base".startswith(name) or any(path.exists() for path in paths)


def provide(sources: Sequence[Source]) -> dict[str, BaseException]:
    """Make the modules importable and known to garak; returns those that cannot be imported, and why."""
    find(sources)
    failed: dict[str, BaseException] = {}
    for one in sources:
        try:
            _introduce(one.name)
        except (Exception, SystemExit) as error:
            failed[one.name] = error
    return failed


def find(sources: Sequence[Source]) -> None:
    """Have Python find the modules when they are imported."""
    if sources:
        sys.meta_path.insert(0, _Finder(sources))


def _introduce(name: str) -> None:
    """Import the module and put its plugins into garak's plugin cache."""
    before = random.getstate()
    register(load(name))
    if random.getstate() != before:
        # It draws random numbers while it is imported. In a run that must come after garak's seeding, so garak imports
        # it once more.
        random.setstate(before)
        for category in CATEGORIES:
            sys.modules.pop(f"garak.{category}.{name}", None)


def load(name: str) -> ModuleType:
    """Import both faces of a module; returns the one of its probes."""
    module = importlib.import_module(f"garak.probes.{name}")
    importlib.import_module(f"garak.detectors.{name}")
    return module


def register(module: ModuleType) -> None:
    """Put a module's plugins into garak's plugin cache, in the form that the cache's file would give them."""
    from garak import _plugins

    cache = _plugins.PluginCache.instance()
    for category in CATEGORIES:
        for plugin in plugins(module, category):
            info = _plugins.PluginCache.plugin_info(plugin)
            path = f"{category}.{plugin.__module__.rpartition('.')[2]}.{plugin.__name__}"
            cache[category][path] = json.loads(json.dumps(info, cls=_plugins.PluginEncoder))


def plugins(module: ModuleType, category: str) -> list[type[Any]]:
    """The plugins of a category that the module defines itself, by name.

    A class whose name begins with an underscore, or that is abstract, is there to be inherited from.
    """
    home = f"garak.{category}.{module.__name__.rpartition('.')[2]}"
    return [
        value
        for name, value in sorted(vars(module).items())
        if inspect.isclass(value)
        and value.__module__ == home
        and value.__name__ == name
        and issubclass(value, base(category))
        and not inspect.isabstract(value)
        and not name.startswith("_")
    ]


def base(category: str) -> type[Any]:
    """The class that every plugin of the category derives from."""
    from garak.detectors.base import Detector
    from garak.probes.base import Probe

    found: type[Any] = {"probes": Probe, "detectors": Detector}[category]
    return found


def describe(name: str, docstring: str) -> None:
    """For the report writer, which wants no more of a module than its docstring: a module of nothing else."""
    module = ModuleType(f"garak.probes.{name}", docstring)
    sys.modules[module.__name__] = module


class _Finder(MetaPathFinder):
    """Finds the two faces of each custom module."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._paths = {one.name: one.path for one in sources}

    def find_spec(self, fullname: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        path = self._paths.get(name)
        if path is None or package not in ("garak.probes", "garak.detectors"):
            return None
        loader = _Face(name, path) if package == "garak.detectors" else _Source(fullname, str(path))
        return spec_from_file_location(fullname, path, loader=loader)


class _Source(SourceFileLoader):
    """Runs the file, as `garak.probes.NAME`."""

    def set_data(self, *_args: object, **_kwargs: object) -> None:
        """Keep no bytecode."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        name = module.__name__.rpartition(".")[2]
        # garak's digest and its detectors need a description; a warning of the check asks for a real one.
        module.__doc__ = module.__doc__ or f"Custom probes {name}"
        detector, probe = base("detectors"), base("probes")
        for value in vars(module).values():
            if not inspect.isclass(value) or value.__module__ != module.__name__:
                continue
            if issubclass(value, detector):
                value.__module__ = f"garak.detectors.{name}"
            if issubclass(value, (detector, probe)) and not value.__doc__:
                value.__doc__ = value.__name__


class _Face(Loader):
    """The same classes once more, as `garak.detectors.NAME`."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path

    def exec_module(self, module: ModuleType) -> None:
        probes = importlib.import_module(f"garak.probes.{self._name}")
        own = {name: value for name, value in vars(probes).items() if not name.startswith("__")}
        vars(module).update(own, __doc__=probes.__doc__)
