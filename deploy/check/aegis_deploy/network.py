"""NetworkPolicies are exactly the architecture's arrows."""

from typing import Any

from .arrows import ARROWS, PORTS
from .objects import NAME, kind, workloads
from .places import SERVICES, Object

# Caller, callee, port.
Arrow = tuple[str, str, int]

DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}
# Where the stores are is not known here, only how they are spoken to.
STORES = {"catalog": [5432], "artifact": [443, 9000]}
# What an untrusted process must not reach in any network: this, and what is like it.
PRIVATE = {
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
}


def complaints(objects: list[Object]) -> list[str]:
    """Where the policies allow more or less than the arrows."""
    policies = kind(objects, "NetworkPolicy")
    found = _everything_denied(policies) + _names(policies)
    sent: set[Arrow] = set()
    received: set[Arrow] = set()
    for service in SERVICES:
        policy = policies.get(service, {}).get("spec", {})
        if policy.get("podSelector") != {"matchLabels": {NAME: service}}:
            found.append(f"NetworkPolicy {service} is not of that service's pods")
            continue
        for rule in policy.get("egress", []):
            sent |= _outwards(service, rule)
            found += _internet(service, rule)
        for rule in policy.get("ingress", []):
            received |= _inwards(service, rule)
    arrows = {(caller, callee, PORTS[callee]) for caller, callee in ARROWS}
    # Who meets the outside.
    outside = {("garak-runner", "internet", 0), *((s, "store", port) for s, ports in STORES.items() for port in ports)}
    found += [f"may be sent, and is no arrow: {arrow}" for arrow in sorted(sent - arrows - outside)]
    found += [f"cannot be sent: {arrow}" for arrow in sorted((arrows | outside) - sent)]
    entrance = {("anybody", "gateway", PORTS["gateway"])}
    found += [f"is let in, and is no arrow: {arrow}" for arrow in sorted(received - arrows - entrance)]
    found += [f"is not let in: {arrow}" for arrow in sorted((arrows | entrance) - received)]
    known = {"default-deny", "dns", *SERVICES}
    found += [f"NetworkPolicy {name} is not known" for name in sorted(policies.keys() - known)]
    names = {workload.service for workload in workloads(objects)}
    return found + [f"pods {name} have no policy" for name in sorted(names - policies.keys())]


def _everything_denied(policies: dict[str, Object]) -> list[str]:
    spec = policies.get("default-deny", {}).get("spec")
    fine = spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return [] if fine else ["what no policy allows is not denied"]


def _names(policies: dict[str, Object]) -> list[str]:
    spec = policies.get("dns", {}).get("spec")
    fine = spec == {"podSelector": {}, "policyTypes": ["Egress"], "egress": [DNS]}
    return [] if fine else ["names cannot be looked up, or more than names is reached by that policy"]


def _outwards(service: str, rule: dict[str, Any]) -> set[Arrow]:
    ports = _ports(rule)
    sent = set()
    for peer in rule.get("to", [{"anywhere": True}]):
        if "ipBlock" in peer:
            sent.add((service, "internet", 0))
        else:
            name = "store" if "anywhere" in peer else _pod(peer)
            sent |= {(service, name, port) for port in ports}
    return sent


def _inwards(service: str, rule: dict[str, Any]) -> set[Arrow]:
    peers = [_pod(peer) for peer in rule["from"]] if "from" in rule else ["anybody"]
    return {(peer, service, port) for peer in peers for port in _ports(rule)}


def _internet(service: str, rule: dict[str, Any]) -> list[str]:
    found = []
    for block in (peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer):
        # Each block leaves out what is private in its own family.
        left_out = {network for network in PRIVATE if (":" in network) == (":" in block["cidr"])}
        if block["cidr"] not in ("0.0.0.0/0", "::/0") or set(block.get("except", [])) != left_out:
            found.append(f"{service} reaches networks of the cluster or the provider: {block['cidr']}")
    return found


def _ports(rule: dict[str, Any]) -> list[int]:
    """The ports of a rule; 0 for all of them."""
    return [entry.get("port", 0) for entry in rule.get("ports", [{}])]


def _pod(peer: dict[str, Any]) -> str:
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    own = set(peer) == {"podSelector"} and set(labels) == {NAME}
    return str(labels[NAME]) if own else f"anything like {peer}"
