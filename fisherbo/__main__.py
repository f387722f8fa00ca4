"""`python -m fisherbo` is the command `fisherbo`."""

import sys

from fisherbo.cli import main

if __name__ == "__main__":  # worker processes import this module anew
    sys.exit(main())
