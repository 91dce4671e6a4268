"""The built-in suites, one problem per file; importing this package registers them."""

from innerloop.compare.registry import add_suite
from innerloop.compare.suites import (
    composite,
    conv,
    curve,
    few_shot,
    fixed_point,
    hyperparameters,
    quadratic,
    ridge,
    sinusoid,
    statistics,
)

add_suite("quadratic", quadratic.suite)
add_suite("ridge", ridge.suite)
add_suite("conv-random", conv.random_features)
add_suite("statistics", statistics.suite)
add_suite("hyperparameters", hyperparameters.suite)
add_suite("curve", curve.suite)
add_suite("lasso", composite.lasso)
add_suite("simplex", composite.simplex)
add_suite("fixed-point", fixed_point.suite)
add_suite("sinusoid", sinusoid.suite)
for _width in few_shot.WIDTHS:
    for _norm in few_shot.NORMS:
        add_suite(f"few-shot-{_width}-{_norm}", few_shot.factory(_width, _norm))
