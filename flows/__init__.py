"""Prefect flows: the only place that imports prefect.

Call `flows.settings.prepare(workspace)` before importing any other module of this package.
"""
