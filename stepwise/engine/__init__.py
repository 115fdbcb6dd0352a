"""Grow a chain of thought: the transition, what a model is asked, and what it all took."""
