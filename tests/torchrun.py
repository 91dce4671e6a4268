"""Running a command in several processes."""

import os
import subprocess
import sys


def started(*words, processes=2, options=()):
    """Run a command in several processes; returns how it ended."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", *options]
    return subprocess.run(
        [*torchrun, "--nproc-per-node", str(processes), *map(str, words)],
        # The second: processes that start again must not find the addresses of those before.
        env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def torchrun(*words, processes=2, options=()):
    """Run a command in several processes, which should end well."""
    done = started(*words, processes=processes, options=options)
    assert done.returncode == 0, done.stderr
