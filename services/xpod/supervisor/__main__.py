"""`python -m xpod.supervisor`: one supervisor."""

import sys

from xpod.supervisor.supervisor import Supervisor, SupervisorConfig
from xpod_runtime.process import main

if __name__ == "__main__":
    sys.exit(main(Supervisor, SupervisorConfig))
