"""Who calls whom. The architecture's picture; everything else is held against it."""

# Within the mesh: the caller, the table of its configuration, and whom it calls.
CALLS = {
    ("gateway", "orchestrator"): "scan-orchestrator",
    ("gateway", "catalog"): "catalog",
    ("gateway", "artifact"): "artifact",
    ("scan-orchestrator", "catalog"): "catalog",
    ("scan-orchestrator", "artifact"): "artifact",
    ("artifact", "catalog"): "catalog",
    ("garak-runner", "orchestrator"): "scan-orchestrator",
    ("garak-runner", "artifact"): "artifact",
}
ARROWS = {(caller, callee) for (caller, _), callee in CALLS.items()}

PORTS = {"gateway": 8080, "scan-orchestrator": 7101, "garak-runner": 7102, "catalog": 7103, "artifact": 7104}


def called_by(service: str) -> dict[str, str]:
    """Whom a service calls, by the table of its configuration."""
    return {table: callee for (caller, table), callee in CALLS.items() if caller == service}
