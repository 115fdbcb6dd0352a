"""Models and pairs of them, and how each is connected."""
