"""The process graph as a tree on the screen."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from orchestrator.cli.printing import number


def print_graph(graph: Mapping[str, Any]) -> None:
    """Draws `ProcessGraph.to_dict` on stdout."""
    Console(highlight=False).print(tree(graph))


def tree(graph: Mapping[str, Any]) -> Tree:
    """Returns the tree: studies with their runner and workers, endpoints with their replicas."""
    cpus = graph["cpus"]
    shares = ", ".join(f"{_whole(cpus[tenant])} {tenant}" for tenant in ("tuning", "serving", "free"))
    root = Tree(Text(f"Ray at {graph['address']}: {_whole(cpus['total'])} CPUs ({shares})", style="bold"))
    for node in graph["nodes"]:
        _hang(root, node)
    return root


def _hang(parent: Tree, node: Mapping[str, Any]) -> None:
    branch = parent.add(Text(_line(node)))
    for child in node["children"]:
        _hang(branch, child)


def _line(node: Mapping[str, Any]) -> str:
    parts = [f"{node['kind']} {node['name']}", f"process {node['pid']}" if node["pid"] else "no process yet"]
    if node["shares"]:
        parts.append(f"in the replicas of {node['shares']}")
    if node["cpus"]:
        parts.append(f"{_whole(node['cpus'])} CPU")
    if node["state"] != "alive":
        parts.append(node["state"])
    if node["restarts"]:
        parts.append(f"restarted {node['restarts']} times")
    return ", ".join(parts)


def _whole(amount: float) -> str:
    return str(int(amount)) if float(amount).is_integer() else number(amount)
