"""Which generators may be called from threads, and how garak is made to do so.

garak asks `multiprocessing.Pool` for workers in two places (attempts of a probe, generations of a prompt). In a child
that name gives threads when the generator is known to be safe, and garak's process pool otherwise.
"""

from __future__ import annotations

import importlib
import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aegis_garak.reasons import Failure, JobFailed
from aegis_garak.target import Target
from aegis_garak.threads import ThreadPools
from aegis_garak.width import Width

# Read in garak 0.17.1: `_call_model` of each keeps its request in local variables and shares only a client.
#   openai  openai.OpenAI is documented as safe to share between threads; self.client is set once.
#   rest    `requests` sessions without cookies; `_extracted_a_response` only ever goes from False to True.
#   ollama  ollama.Client is an httpx.Client, documented as thread-safe. parallel_capable is False there
#           because the client cannot be pickled into a process pool, which is not needed here.
_THREAD_SAFE = frozenset({"garak.generators.openai", "garak.generators.rest", "garak.generators.ollama"})

# Answers at once and draws from one random generator: more than one at a time would change its answers.
_SERIAL = frozenset({"garak.generators.test"})


def generator_class(name: str) -> Any:
    """The class that garak loads for a target type such as "openai.OpenAICompatible" or "openai".

    Raises ImportError or AttributeError when there is none.
    """
    module_name, _, class_name = name.partition(".")
    module = importlib.import_module(f"garak.generators.{module_name}")
    return getattr(module, class_name or module.DEFAULT_CLASS)


def workers_settings(generator: Any, max_in_flight: int) -> dict[str, int | bool]:
    """garak's `system` settings for `install` to take effect."""
    if max_in_flight == 1 or _origin(generator) in _SERIAL:
        return {"parallel_attempts": False, "parallel_requests": False}
    # A worker of a process pool may not have a pool of its own (multiprocessing: daemonic processes).
    requests = max_in_flight if is_thread_safe(generator) else False
    return {"parallel_attempts": max_in_flight, "parallel_requests": requests}


def is_thread_safe(generator: Any) -> bool:
    """Whether the generator's calls may run in threads."""
    return _origin(generator) in _THREAD_SAFE


def _origin(generator: Any) -> str:
    """The module whose code makes the call: a subclass that overrides it elsewhere has not been read by us."""
    return str(generator._call_model.__module__)


def install(generator: Any, target: Target, max_in_flight: int, start: int = 1) -> Width:
    """Make garak call this generator class as widely as the target deserves, at most `max_in_flight` at once.

    `start` is the width to begin with: what an earlier job with the same target ended with.
    """
    width = Width(max_in_flight, start)
    _watch_calls(generator, target, width)
    if is_thread_safe(generator):
        generator.parallel_capable = True
        pools = ThreadPools(width, max_in_flight, _bind_per_thread)
        multiprocessing.Pool = pools.pool  # type: ignore[assignment]
    else:
        _bound_process_pool(max_in_flight)
    return width


def _watch_calls(generator: Any, target: Target, width: Width) -> None:
    """Wrap the class's call, outside its retries: it passes the gate, and the target hears how it ended."""
    call = generator._call_model

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        with width.call():
            target.call_began()
            try:
                outputs = call(self, *args, **kwargs)
            except Exception as error:
                target.call_ended_with(error)
                raise
        if any(output is not None and output.text is not None for output in outputs):
            target.succeeded()
        return outputs

    watched.__module__ = call.__module__
    generator._call_model = watched


def _bind_per_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """A probe's `_execute_attempt` for use in worker threads.

    Some probes set options on their generator before each attempt (promptinject, divergence). A process pool gives
    each worker a copy; so do we, but only of the object's dictionary: the client stays shared.
    """
    from garak.probes.base import Probe

    probe = getattr(function, "__self__", None)
    if probe is None or type(probe)._generator_precall_hook is Probe._generator_precall_hook:
        return function
    local = threading.local()
    name = function.__name__

    def bound(attempt: Any) -> Any:
        if not hasattr(local, "probe"):
            local.probe = _shallow(probe)
            local.probe.generator = _shallow(probe.generator)
            # OpenAICompatible closes its client when it is collected; this one is not the owner.
            local.probe.generator.close = lambda: None
        return getattr(local.probe, name)(attempt)

    return bound


def _shallow(plugin: Any) -> Any:
    """A copy that shares everything; copy.copy would go through __getstate__ and build a new client."""
    twin = object.__new__(type(plugin))
    twin.__dict__.update(plugin.__dict__)
    return twin


class _Carrying:
    """A worker's function that brings a JobFailed back as its failure.

    A pool's worker returns an Exception to its parent, but dies of a BaseException, and the parent waits for ever.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, item: Any) -> Any:
        try:
            return self._function(item)
        except JobFailed as ended:
            return ended.failure


def _bound_process_pool(max_in_flight: int) -> None:
    make = multiprocessing.Pool

    class BoundPool:
        """garak's pool, never wider than allowed, and gone at once when a worker fails.

        garak itself would close it and wait for every queued attempt first.
        """

        def __init__(self, processes: int) -> None:
            self._pool = make(min(processes, max_in_flight))

        def imap_unordered(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
            try:
                # In order: what follows must not depend on timing.
                for result in self._pool.imap(_Carrying(function), items):
                    if isinstance(result, Failure):
                        raise JobFailed(result)
                    yield result
            except BaseException:
                self._pool.terminate()
                raise

        def close(self) -> None:
            self._pool.close()

        def join(self) -> None:
            self._pool.join()

    multiprocessing.Pool = BoundPool  # type: ignore[assignment]
