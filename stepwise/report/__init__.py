"""A run's results as something to look at: one figure for a paper, one self-contained page.

Both are drawn from ``summary`` and ``rows`` alone (plain dicts, as in ``summary.json`` and
``rows.jsonl``), so a report can be made again at any time without running a model. In them,
a point's ``tokens`` are totals over all problems, its ``cost`` is the mean per problem in
``cost_unit``, and a metric that is undefined is None or nan.
"""

from stepwise.report.page import write_page
from stepwise.report.plot import save_frontier

__all__ = ["save_frontier", "write_page"]
