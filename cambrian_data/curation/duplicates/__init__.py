"""Samples that say the same, and pictures that look alike."""
