"""The command line: the only place in the package that reads ``argv``."""
