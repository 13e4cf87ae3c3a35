"""`python -m xpod.decode`: one decode worker."""

import sys

from xpod.decode.worker import Decode, DecodeConfig
from xpod_runtime.process import main

if __name__ == "__main__":
    sys.exit(main(Decode, DecodeConfig))
