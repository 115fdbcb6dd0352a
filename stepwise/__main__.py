"""``python -m stepwise``: the command line."""

import sys

from stepwise.cli.main import main

sys.exit(main())
