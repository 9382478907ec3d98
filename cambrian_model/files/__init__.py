"""Models on disk: ours, published ones, pretrained parts, sharded checkpoints."""
