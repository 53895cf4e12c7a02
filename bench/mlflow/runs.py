"""Puts runs into a tracking store, by the store's own calls: what a row of Aegis's history has.

runs.py DATABASE_URL RUNS
"""

import sys

from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

FIRST_MS = 1_700_000_000_000
SPAN_MS = 94_608_000_000


def main(url: str, runs: int) -> None:
    store = SqlAlchemyStore(url, "./artifacts")
    experiment = store.create_experiment("bench")
    for i in range(1, runs + 1):
        at = FIRST_MS + i * (SPAN_MS // runs)
        tags = [RunTag("team", f"team-{i // 7 % 20}"), RunTag("target", f"model-{i % 100}")]
        run = store.create_run(experiment, "local", at, tags, f"nightly {i}").info.run_id
        numbers = {
            "planned": 40,
            "evaluated": 40 - i % 3,
            "passed": 1000 + i % 977,
            "failed": i % 613,
            "nones": 0,
        }
        metrics = [Metric(name, number, at, 0) for name, number in numbers.items()]
        params = [
            Param("target_type", "openai.OpenAICompatible"),
            Param("target_name", f"model-{i % 100}"),
            Param("generations", "5"),
        ]
        store.log_batch(run, metrics, params, [])
        store.update_run_info(run, RunStatus.FINISHED, at + 60_000, None)
    print("experiment", experiment)


main(sys.argv[1], int(sys.argv[2]))
