"""Faults by the dozen, and whether a single event was lost, repeated or changed by them."""
