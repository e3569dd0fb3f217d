"""A node of Ray's beneath this process: joins the cluster at the address given, until its standard input ends."""

from __future__ import annotations

import sys

from ray._private.node import Node
from ray._private.parameter import RayParams

from glmcore.cluster.session import STORE_BYTES

Node(
    RayParams(
        gcs_address=sys.argv[1], redis_address=sys.argv[1], node_ip_address="127.0.0.1", num_cpus=1, num_gpus=0,
        object_store_memory=STORE_BYTES, include_log_monitor=False, node_manager_port=0, min_worker_port=0,
        max_worker_port=0, dashboard_agent_listen_port=None,
    ),
    head=False, shutdown_at_exit=True, spawn_reaper=True,
)  # fmt: skip
sys.stdin.read()
