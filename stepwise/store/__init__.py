"""Completions by what they depend on, so that nothing is generated twice."""
