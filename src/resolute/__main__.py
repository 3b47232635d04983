"""``python -m resolute``, for torchrun."""

import sys

from resolute.cli.main import main

sys.exit(main())
