"""The command line: `innerloop-vos COMMAND ...`; each command is a module of `commands`.

It imports next to nothing, so that signals are handled almost from the start of the process.
"""

import os
import sys
from collections.abc import Sequence

from innerloop_vos.runs import signals

# Small CPU convolutions collapse under OpenMP contention; this must precede the torch import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments after the program's name. Default: those of the process.

    Returns:
        The exit code: 0 for success, 2 for input that cannot be used, 130 if interrupted,
        143 if terminated.
    """
    # Importing torch takes seconds, and a signal would end it with a traceback.
    with signals.handled(signals.leave, for_good=argv is None):
        from innerloop_vos.commands.parser import parse

        arguments = parse(argv)
        from innerloop_vos.commands import program

        return program.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
