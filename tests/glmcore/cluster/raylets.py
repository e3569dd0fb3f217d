"""Ray's processes on loopback, beneath this one: nodes join and die by lines of its standard input, a JSON list each.

["add", {variables}] starts a node and says its id, ["kill", id] kills its raylet with signal 9. The first line that is
said is {"address": …, "variables": {…}}, by which others join. Ends, with all of Ray's, with its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from glmcore.cluster.session import LOCAL, STORE_BYTES, folder_of_local


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    with folder_of_local():
        from ray.cluster_utils import Cluster

        cluster, nodes = Cluster(), {}

        def add(variables: dict[str, str]) -> str:
            node = cluster.add_node(
                num_cpus=1, object_store_memory=STORE_BYTES, include_dashboard=False, node_ip_address="127.0.0.1",
                env_vars=variables,
            )  # fmt: skip
            nodes[node.node_id] = node
            return node.node_id

        add({})
        names = [*LOCAL, "RAY_TMPDIR", "RAY_AUTH_TOKEN_PATH"]
        say({"address": cluster.address, "variables": {name: os.environ[name] for name in names}})
        for line in sys.stdin:
            order, argument = json.loads(line)
            if order == "add":
                say(add(argument))
            else:
                cluster.remove_node(nodes.pop(argument), allow_graceful=False)
                say("killed")
        cluster.shutdown()


if __name__ == "__main__":
    main()
