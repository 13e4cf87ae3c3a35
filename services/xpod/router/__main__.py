"""`python -m xpod.router`: one router."""

import sys

from xpod.router.router import Router, RouterConfig
from xpod_runtime.process import main

if __name__ == "__main__":
    sys.exit(main(Router, RouterConfig))
