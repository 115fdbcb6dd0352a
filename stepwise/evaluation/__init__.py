"""Running a comparison of routers: rows, metrics, what repeats a run."""
