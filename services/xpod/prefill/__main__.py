"""`python -m xpod.prefill`: one prefill worker."""

import sys

from xpod.prefill.worker import Prefill, PrefillConfig
from xpod_runtime.process import main

if __name__ == "__main__":
    sys.exit(main(Prefill, PrefillConfig))
