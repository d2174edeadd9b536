"""What runs behind a port: latency, limits, faults, logs."""
