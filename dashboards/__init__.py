"""Dashboards for Grafana, built from code: `python -m dashboards.build` writes the JSON files in this directory.

`operations` is for whoever is woken up at 3 a.m.; `labels` for whoever looks at what was labelled in the morning.
"""
