"""``python -m stepwise``: the command line."""

import sys

from stepwise.cli import main

sys.exit(main())
