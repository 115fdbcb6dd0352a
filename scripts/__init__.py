"""Experiments: one linear Hydra program each, run as ``python -m scripts.NAME`` from a checkout.

`scripts.program` makes a function a program; what a program can be told is a dataclass beside it, and
``configs/NAME.yaml`` names the groups that it is put together from.
"""
