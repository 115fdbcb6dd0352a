"""A run's results as something to look at: figures and tables for a paper, one self-contained page.

Everything is drawn from a run's `Summary` and `Row`s alone (``summary.json`` and ``rows.jsonl``), so a report
can be made again at any time without running a model (`stepwise report`).
"""

from stepwise.report.compare import write_comparison
from stepwise.report.console import show
from stepwise.report.folder import read_run, write_report, write_run
from stepwise.report.page import write_page
from stepwise.report.plot import save_frontier

__all__ = [
    "read_run",
    "save_frontier",
    "show",
    "write_comparison",
    "write_page",
    "write_report",
    "write_run",
]
