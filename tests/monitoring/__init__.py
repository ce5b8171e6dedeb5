"""Dashboards and alerts against what they rest on: the catalogue, a real Prometheus, and workers under load."""
