"""What models wrote, recorded once: the tree of each problem's chains, from which any router can be replayed."""
