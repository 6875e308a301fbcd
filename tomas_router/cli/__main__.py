"""``python -m tomas_router.cli``, the same as ``tomas``."""

import sys

from tomas_router.cli.main import main

sys.exit(main())
