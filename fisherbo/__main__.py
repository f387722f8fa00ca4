"""`python -m fisherbo` is the command `fisherbo`."""

import sys

from fisherbo.cli import main

sys.exit(main())
