"""The aggregator: gathers uploads, opens sums, checkpoints, reports. Runs as Flower's ServerApp."""
