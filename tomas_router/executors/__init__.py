"""What runs a plan. The stub prints and simulates; real executors run on this machine or a cluster."""
