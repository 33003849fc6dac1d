"""The command that starts a module in two processes on this machine: any free port, no name to be looked up."""

import sys

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
TORCHRUN += ["--local-addr=127.0.0.1", "-m"]
