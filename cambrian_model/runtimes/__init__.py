"""Devices beside one process: CUDA, XLA, sharding, ranks."""
