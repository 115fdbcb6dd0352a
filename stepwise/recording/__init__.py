"""What models wrote, recorded once: trees of chains, from which routers are replayed without models."""
