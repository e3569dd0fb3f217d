"""Which machine gets which layers of how many replicas. Pure arithmetic, no torch."""

from glmcore.plan.cluster.nodes import Link, Node
from glmcore.plan.cluster.planner import plan_cluster
from glmcore.plan.cluster.record import ClusterPlan, Replica, Stage
from glmcore.plan.cluster.saved import cluster_plan_from_json
from glmcore.plan.cluster.text import describe

__all__ = ["ClusterPlan", "Link", "Node", "Replica", "Stage", "cluster_plan_from_json", "describe", "plan_cluster"]
