"""The built-in problems: sums in stories, drawn by a seed."""
