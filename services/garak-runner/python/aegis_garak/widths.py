"""What the warm process remembers of targets: how many calls in flight suited each, so that a next job starts there."""

from __future__ import annotations

import hashlib
import json

from aegis_garak.protocol import Json

_MAX_TARGETS = 256


def target_key(job: Json) -> str:
    """A key for a job's target: equal for jobs with the same generator and generator configuration."""
    config = job.get("garak_config")
    plugins = config.get("plugins") if isinstance(config, dict) else None
    chosen = [plugins.get(name) for name in ("target_name", "generators")] if isinstance(plugins, dict) else []
    return hashlib.sha256(json.dumps([job.get("generator"), chosen], sort_keys=True).encode()).hexdigest()


class Widths:
    """The last width per target; the longest unused one is forgotten first."""

    def __init__(self) -> None:
        """Know nothing."""
        self._by_target: dict[str, int] = {}

    def of(self, target: str) -> int:
        """The width to start with."""
        return self._by_target.get(target, 1)

    def learn(self, target: str, width: object) -> None:
        """Remember how a job ended. What a child says is checked: it runs other people's code."""
        if not isinstance(width, int) or not 1 <= width <= 1024:
            return
        self._by_target.pop(target, None)
        self._by_target[target] = width
        if len(self._by_target) > _MAX_TARGETS:
            del self._by_target[next(iter(self._by_target))]
