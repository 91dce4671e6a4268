"""Run the test suites of higher or learn2learn on `innerloop.compat` in place of these packages.

    pip install parameterized  # which higher's tests use
    git clone --depth 1 https://github.com/facebookresearch/higher
    python tests/peer_suites.py higher higher
    git clone --depth 1 https://github.com/learnables/learn2learn
    python tests/peer_suites.py learn2learn learn2learn

The arguments are the name, the folder of the checkout, and options for pytest. Of learn2learn the
unit tests of the parts that are here run: utils, algorithms and the Kronecker layers. pytest
prints each failure in a line, and the counts. This runs the code of the checkout.

higher's suite draws its inputs without a seed. Its comparison of Adam with torch.optim in
testDiffOptStateDict fails in about half of the runs: `DifferentiableAdam` adds eps where higher
0.2.1 does, which torch.optim does not. learn2learn's test_clone_module_models needs its `vision`.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

SUITES = {
    "higher": ["tests"],
    "learn2learn": [
        "tests/unit/utils_test.py",
        "tests/unit/algorithms",
        "tests/unit/nn/kroneckers_test.py",
    ],
}


def take_the_place_of(name: str) -> None:
    """Let imports of a package and its modules find those of `innerloop.compat`."""
    package = importlib.import_module(f"innerloop.compat.{name}")
    sys.modules[name] = package
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        sys.modules[info.name.removeprefix("innerloop.compat.")] = module


def main(name: str, checkout: str, *options: str) -> int:
    """Run the suite of a package; pytest's exit code."""
    if name not in SUITES:
        sys.exit(f"name: {name}, should be one of {', '.join(SUITES)}")
    paths = [Path(checkout, part) for part in SUITES[name]]
    for path in paths:
        if not path.exists():
            sys.exit(f"checkout: {path} is not there, should be a copy of {name}'s repository")
    take_the_place_of(name)
    quiet = ["-q", "-W", "ignore", "--tb=line", "-p", "no:cacheprovider"]
    place = ["--import-mode=importlib", f"--rootdir={checkout}"]
    return pytest.main([*quiet, *place, *options, *map(str, paths)])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
