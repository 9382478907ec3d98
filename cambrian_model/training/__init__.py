"""Parts of a training run beside its loop."""
