"""A run's results as something to look at: figures and tables for a paper, one self-contained page.

Everything is drawn from ``summary`` and ``rows`` alone (plain dicts, as in ``summary.json`` and
``rows.jsonl``), so a report can be made again at any time without running a model (`stepwise report`). In
them, a point's ``tokens`` are totals over all problems, its ``cost`` is the mean per problem in
``cost_unit``, and a metric that is undefined is None or nan.
"""

from stepwise.report.compare import write_comparison
from stepwise.report.folder import read_run, write_report
from stepwise.report.page import write_page
from stepwise.report.plot import save_frontier

__all__ = ["read_run", "save_frontier", "write_comparison", "write_page", "write_report"]
