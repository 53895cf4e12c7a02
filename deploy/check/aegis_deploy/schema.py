"""Strict schemas: Kubernetes' own, and KEDA's, of which no package has them."""

import json
from functools import cache
from typing import Any

import kubernetes_validate

from .objects import workloads
from .places import Object

# The oldest that deploy/ is for, and the newest that is known.
VERSIONS = ("1.32", "1.37")

# What of KEDA's objects is used here, with the types that its custom resource definitions give them
# (keda.sh/v1alpha1). Anything else is refused: who uses more writes it down here first.
_RULES = {"stabilizationWindowSeconds": int, "policies": [{"type": str, "value": int, "periodSeconds": int}]}
_TRIGGER = {"type": str, "metadata": {str: str}, "authenticationRef": {"name": str}}
_SCHEMAS: dict[str, Any] = {
    "ScaledObject": {
        "scaleTargetRef": {"apiVersion": str, "kind": str, "name": str},
        "pollingInterval": int,
        "minReplicaCount": int,
        "maxReplicaCount": int,
        "fallback": {"failureThreshold": int, "replicas": int},
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": _RULES, "scaleDown": _RULES}}},
        "triggers": [{**_TRIGGER, "metricType": str}],
    },
    "ScaledJob": {
        "pollingInterval": int,
        "minReplicaCount": int,
        "maxReplicaCount": int,
        "successfulJobsHistoryLimit": int,
        "failedJobsHistoryLimit": int,
        "scalingStrategy": {"strategy": str},
        "jobTargetRef": dict,  # A Job's specification, held against that schema.
        "triggers": [_TRIGGER],
    },
    "TriggerAuthentication": {"secretTargetRef": [{"parameter": str, "name": str, "key": str}]},
}


def complaints(objects: list[Object]) -> list[str]:
    """What the schemas refuse."""
    found = []
    for o in objects:
        name = f"{o['kind']} {o['metadata']['name']}"
        if o["apiVersion"] == "keda.sh/v1alpha1":
            schema = _SCHEMAS.get(o["kind"])
            found += [f"{name}: no schema"] if schema is None else _check(o["spec"], schema, f"{name}: spec")
        else:
            found += _kubernetes(o, name)
    for workload in workloads(objects):
        if workload.kind == "ScaledJob":
            spec = workload.object["spec"]["jobTargetRef"]
            job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "of-scaled-job"}, "spec": spec}
            found += _kubernetes(job, f"ScaledJob {workload.name}: jobTargetRef")
    return found


def _kubernetes(o: Object, name: str) -> list[str]:
    text = json.dumps(o, sort_keys=True)
    refused = {version: _refused(text, version) for version in VERSIONS}
    return [f"{name} is not valid in {version}: {why}" for version, why in refused.items() if why]


@cache
def _refused(text: str, version: str) -> str:
    """Why an object is refused; once for each object, because reading a schema takes its time."""
    try:
        kubernetes_validate.validate(json.loads(text), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


def _check(value: Any, schema: Any, at: str) -> list[str]:
    if isinstance(schema, list):
        if not isinstance(value, list) or not value:
            return [f"{at} is no list"]
        return [c for n, item in enumerate(value) for c in _check(item, schema[0], f"{at}[{n}]")]
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{at} is no object"]
        if str in schema:
            return [c for key, item in value.items() for c in _check(item, schema[str], f"{at}.{key}")]
        unknown = [f"{at}.{key} is not known" for key in value.keys() - schema.keys()]
        return unknown + [
            c for key in schema.keys() & value.keys() for c in _check(value[key], schema[key], f"{at}.{key}")
        ]
    # A bool is an int in Python, and nowhere else.
    fits = isinstance(value, schema) and not (schema is int and isinstance(value, bool))
    return [] if fits else [f"{at} is {value!r}, no {schema.__name__}"]
