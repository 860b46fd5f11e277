"""`python -m rife`."""

import sys

from .cli import main

sys.exit(main())
