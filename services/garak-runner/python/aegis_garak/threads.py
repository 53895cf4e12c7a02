"""A stand-in for `multiprocessing.Pool` that runs calls in threads, in order, as wide as `Width` says.

garak makes a new process pool per probe, pickles each attempt, and builds a new client in each worker: with a target
across a network that is nearly all of a scan's CPU. A thread needs none of it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from aegis_garak.width import Width

_WINDOW = 8
"""Finished results that may wait for an earlier one, as a multiple of what runs."""


class ThreadPools:
    """Makes the pools of one child. Threads are shared by all of them and live as long as the child."""

    def __init__(self, width: Width, limit: int, bind: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """`limit` threads at most per level; `bind` gives the function that a worker thread calls for a given one."""
        self._width = width
        self._bind = bind
        self._local = threading.local()
        # Two levels, each with its own threads: attempts wait for calls, so sharing them could lock up.
        self._attempts = ThreadPoolExecutor(limit, thread_name_prefix="attempt", initializer=self._mark_worker)
        self._calls = ThreadPoolExecutor(limit, thread_name_prefix="call")

    def _mark_worker(self) -> None:
        self._local.is_worker = True

    def pool(self, _processes: int | None = None) -> ThreadPool:
        """What garak gets when it asks for a process pool: attempts from its main thread, calls from a worker."""
        return ThreadPool(self)

    def run(self, function: Callable[[Any], Any], items: list[Any], attempts: bool) -> Iterator[Any]:
        """Apply a function to all items; results in the items' order."""
        if attempts:
            return _ordered(self._attempts, self._bind(function), items, lambda: self._width.now)
        return _ordered(self._calls, function, items, lambda: self._width.now)


class ThreadPool:
    """The part of `multiprocessing.pool.Pool` that garak uses."""

    def __init__(self, pools: ThreadPools) -> None:
        """A view of the child's threads."""
        self._pools = pools

    def imap_unordered(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Apply a function to all items. The order is kept: what follows must not depend on timing."""
        attempts = getattr(function, "__name__", "") == "_execute_attempt"
        return self._pools.run(function, list(items), attempts)

    def close(self) -> None:
        """Nothing to close: the threads belong to the child."""

    def join(self) -> None:
        """Nothing to wait for: garak has taken every result, or gives up."""


def _ordered(
    executor: ThreadPoolExecutor, function: Callable[[Any], Any], items: list[Any], width: Callable[[], int]
) -> Iterator[Any]:
    """Results in order. While the width is one, items run in the calling thread, one after another."""
    done: queue.SimpleQueue[None] = queue.SimpleQueue()
    window: list[Future[Any]] = []
    running = position = 0
    while position < len(items) or window:
        while not done.empty():
            done.get()
            running -= 1
        wide = width()
        if wide == 1 and not window:
            yield function(items[position])
            position += 1
            continue
        while position < len(items) and running < wide and len(window) < wide * _WINDOW:
            future = executor.submit(function, items[position])
            future.add_done_callback(lambda _: done.put(None))
            window.append(future)
            position += 1
            running += 1
        if not window[0].done():
            done.get()
            running -= 1
        else:
            yield window.pop(0).result()
