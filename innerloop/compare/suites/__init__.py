"""The built-in suites, one problem a file; importing this package registers them."""

from innerloop.compare.registry import add_suite
from innerloop.compare.suites.conv import random_features
from innerloop.compare.suites.few_shot import NORMS, WIDTHS, few_shot
from innerloop.compare.suites.hyperparameters import hyperparameters
from innerloop.compare.suites.quadratic import quadratic
from innerloop.compare.suites.ridge import ridge
from innerloop.compare.suites.sinusoid import sinusoid

add_suite("quadratic", quadratic)
add_suite("ridge", ridge)
add_suite("conv-random", random_features)
add_suite("hyperparameters", hyperparameters)
add_suite("sinusoid", sinusoid)
for _width in WIDTHS:
    for _norm in NORMS:
        add_suite(f"few-shot-{_width}-{_norm}", few_shot(_width, _norm))
