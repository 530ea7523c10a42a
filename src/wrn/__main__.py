"""`python -m wrn` is `wrn`."""

import sys

from wrn.cli import main

sys.exit(main())
