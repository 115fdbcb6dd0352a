"""Weights that are known, fetched, verified and unpacked."""
