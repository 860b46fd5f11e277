"""Runs `python -m rife`."""

import sys

from .cli.app import main

sys.exit(main())
