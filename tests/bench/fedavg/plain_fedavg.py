"""Flower's own FedAvg with sites that return what they got plus a constant: no training, no protection."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Any) -> Message:
    """Add one to every parameter."""
    (vector,) = message.content["arrays"].to_numpy_ndarrays()
    content = RecordDict(
        {
            "arrays": ArrayRecord([vector + np.float32(1.0)]),
            "metrics": MetricRecord({"num-examples": 10, "loss": 0.5}),
        }
    )
    return Message(content=content, reply_to=message)


class Timed(FedAvg):
    """FedAvg that writes down when each round was aggregated."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ends: list[float] = []

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        """As FedAvg, then the time."""
        result = super().aggregate_train(server_round, replies)
        self.ends.append(time.monotonic())
        return result


@server.main()
def main(grid: Any, context: Any) -> None:
    """Run the rounds and write each round's seconds (from the second round on) and our peak memory."""
    config = context.run_config
    sites = int(config["sites"])
    strategy = Timed(
        fraction_evaluate=0.0,
        min_train_nodes=sites,
        min_available_nodes=sites,
        weighted_by_key="num-examples",
    )
    start = ArrayRecord([np.zeros(int(config["size"]), np.float32)])
    strategy.start(grid=grid, initial_arrays=start, num_rounds=int(config["rounds"]))
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    told = {
        "seconds": np.diff(strategy.ends).tolist(),
        "peak_mb": int(peak.split()[1]) / 1024,
    }
    Path(str(config["out"])).write_text(json.dumps(told))
