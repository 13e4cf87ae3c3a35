"""`python -m xpod.expert`: one expert shard."""

import sys

from xpod.expert.shard import Expert, ExpertConfig
from xpod_runtime.process import main

if __name__ == "__main__":
    sys.exit(main(Expert, ExpertConfig))
