"""`python -m xpod.mempool`: one MemPool node."""

import sys

from xpod.mempool.node import MemPool, MemPoolConfig
from xpod_model.memory import keep_freed_memory
from xpod_runtime.process import main

if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main(MemPool, MemPoolConfig))
