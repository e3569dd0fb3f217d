"""What /stats and /metrics say of the cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from glmcore.cluster.keeper import Keeper
from glmcore.cluster.table import State

STATES = tuple(state.value for state in State)


class ClusterFigures:
    """Read at the moment they are asked for."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper

    def report(self) -> dict[str, Any]:
        table = self.keeper.table
        return {
            "nodes": [self._node(id) for id in list(table.entries)],
            "replicas": [
                {
                    "name": name, "nodes": [table.entries[id].name for id in remote.nodes if id in table.entries],
                    "backend": remote.about["backend"], "parallel": remote.about["parallel"],
                    "context": remote.about["context"], "stages": remote.about["stages"], "batch": dict(remote.figures),
                }
                for name, remote in list(self.keeper.front.remotes.items())
            ],
            "losses": table.losses,
            "restarts": sum(entry.restarts for entry in table.entries.values()),
        }  # fmt: skip

    def _node(self, id: str) -> dict[str, Any]:
        entry, node = self.keeper.table.entries[id], self.keeper.nodes.get(id)
        known = {} if node is None else node.to_json()
        return {**known, "node": entry.name, "state": entry.state.value, "restarts": entry.restarts, "why": entry.why}

    def metrics(self) -> Iterator[Metric]:
        report = self.report()
        nodes = GaugeMetricFamily("glmcore_cluster_nodes", "Nodes by their state", labels=["state"])
        counts = Counter(node["state"] for node in report["nodes"])
        for state in STATES:
            nodes.add_metric([state], counts[state])
        yield nodes
        yield GaugeMetricFamily("glmcore_cluster_replicas", "Replicas that serve", value=len(report["replicas"]))
        stages = GaugeMetricFamily("glmcore_cluster_stages", "Processes of a replica", labels=["replica"])
        meaning = "Answers of a replica by what is done"
        batch = GaugeMetricFamily("glmcore_cluster_batch", meaning, labels=["replica", "what"])
        for replica in report["replicas"]:
            stages.add_metric([replica["name"]], len(replica["stages"]))
            for what in ("waiting", "reading", "answering"):
                batch.add_metric([replica["name"], what], replica["batch"].get(what, 0))
        yield stages
        yield batch
        yield CounterMetricFamily("glmcore_cluster_losses", "Replicas that were lost", value=report["losses"])
        meaning = "Nodes on which what was lost was to be started again"
        yield CounterMetricFamily("glmcore_cluster_restarts", meaning, value=report["restarts"])
