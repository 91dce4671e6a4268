"""The test problems of Moré, Garbow and Hillstrom: residuals, and standard starting points.

Source:
    Moré, Garbow and Hillstrom, Testing Unconstrained Optimization Software, ACM TOMS 7(1), 1981.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Residual = Callable[[Tensor], Tensor]


class Case(NamedTuple):
    """A problem with its size and standard starting point."""

    name: str
    residual: Residual
    start: Tensor


def _tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _count(m: int) -> Tensor:
    """1, 2, ..., m."""
    return torch.arange(1, m + 1, dtype=torch.float64)


# The problems in the paper's order; x is x of the paper counted from 0, y, t, u are its data.


def rosenbrock(x: Tensor) -> Tensor:
    odd, even = x[::2], x[1::2]
    return torch.stack([10 * (even - odd**2), 1 - odd], -1).flatten()


def freudenstein_roth(x: Tensor) -> Tensor:
    a = -13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1]
    return torch.stack([a, -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]])


def powell_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([1e4 * x[0] * x[1] - 1, torch.exp(-x[0]) + torch.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x: Tensor) -> Tensor:
    return _tensor(1.5, 2.25, 2.625) - x[0] * (1 - x[1] ** _count(3))


def jennrich_sampson(x: Tensor) -> Tensor:
    i = _count(10)
    return 2 + 2 * i - (torch.exp(i * x[0]) + torch.exp(i * x[1]))


def helical_valley(x: Tensor) -> Tensor:
    angle = torch.atan(x[1] / x[0]) / (2 * torch.pi) + torch.where(x[0] < 0, 0.5, 0.0)
    radius = torch.sqrt(x[0] ** 2 + x[1] ** 2)
    return torch.stack([10 * (x[2] - 10 * angle), 10 * (radius - 1), x[2]])


def bard(x: Tensor) -> Tensor:
    y = _tensor(0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.1)
    y = torch.cat([y, _tensor(4.39)])
    u = _count(15)
    v = 16 - u
    return y - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


def gaussian(x: Tensor) -> Tensor:
    y = _tensor(0.0009, 0.0044, 0.0175, 0.054, 0.1295, 0.242, 0.3521, 0.3989)
    y = torch.cat([y, y[:-1].flip(0)])
    t = (8 - _count(15)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - y


def meyer(x: Tensor) -> Tensor:
    y = _tensor(34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427)
    y = torch.cat([y, _tensor(3820, 3307, 2872)])
    return x[0] * torch.exp(x[1] / (45 + 5 * _count(16) + x[2])) - y


def gulf(x: Tensor) -> Tensor:
    t = _count(99) / 100
    y = 25 + (-50 * torch.log(t)) ** (2 / 3)
    return torch.exp(-((y - x[1]).abs() ** x[2]) / x[0]) - t


def box(x: Tensor) -> Tensor:
    t = _count(10) / 10
    exact = torch.exp(-t) - torch.exp(-10 * t)
    return torch.exp(-t * x[0]) - torch.exp(-t * x[1]) - x[2] * exact


def powell_singular(x: Tensor) -> Tensor:
    a, b, c, d = x.reshape(-1, 4).unbind(1)
    rows = [a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2]
    return torch.stack(rows, -1).flatten()


def wood(x: Tensor) -> Tensor:
    rows = [10 * (x[1] - x[0] ** 2), 1 - x[0], 90**0.5 * (x[3] - x[2] ** 2), 1 - x[2]]
    return torch.stack([*rows, 10**0.5 * (x[1] + x[3] - 2), (x[1] - x[3]) / 10**0.5])


def kowalik_osborne(x: Tensor) -> Tensor:
    y = _tensor(0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235)
    y = torch.cat([y, _tensor(0.0246)])
    u = _tensor(4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: Tensor) -> Tensor:
    t = _count(20) / 5
    return (x[0] + t * x[1] - t.exp()) ** 2 + (x[2] + x[3] * t.sin() - t.cos()) ** 2


# fmt: off
_OSBORNE_1 = (
    .844, .908, .932, .936, .925, .908, .881, .850, .818, .784, .751, .718, .685, .658, .628, .603,
    .580, .558, .538, .522, .506, .490, .478, .467, .457, .448, .438, .431, .424, .420, .414, .411,
    .406,
)
_OSBORNE_2 = (
    1.366, 1.191, 1.112, 1.013, .991, .885, .831, .847, .786, .725, .746, .679, .608, .655, .616,
    .606, .602, .626, .651, .724, .649, .649, .694, .644, .624, .661, .612, .558, .533, .495, .500,
    .423, .395, .375, .372, .391, .396, .405, .428, .429, .523, .562, .607, .653, .672, .708, .633,
    .668, .645, .632, .591, .559, .597, .625, .739, .710, .729, .720, .636, .581, .428, .292, .162,
    .098, .054,
)
# fmt: on


def osborne_1(x: Tensor) -> Tensor:
    t = 10 * (_count(33) - 1)
    fit = x[0] + x[1] * torch.exp(-t * x[3]) + x[2] * torch.exp(-t * x[4])
    return _tensor(*_OSBORNE_1) - fit


def biggs_exp6(x: Tensor) -> Tensor:
    t = _count(13) / 10
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    a, b, c = torch.exp(-t * x[0]), torch.exp(-t * x[1]), torch.exp(-t * x[4])
    return x[2] * a - x[3] * b + x[5] * c - y


def osborne_2(x: Tensor) -> Tensor:
    t = (_count(65) - 1) / 10
    bells = x[1:4, None] * torch.exp(-((t - x[8:11, None]) ** 2) * x[5:8, None])
    return _tensor(*_OSBORNE_2) - (x[0] * torch.exp(-t * x[4]) + bells.sum(0))


def watson(x: Tensor) -> Tensor:
    j = torch.arange(len(x), dtype=torch.float64)
    t = _count(29)[:, None] / 29
    slope = (j[1:] * x[1:] * t ** (j[1:] - 1)).sum(1)
    return torch.cat([slope - (x * t**j).sum(1) ** 2 - 1, x[:1], x[1:2] - x[:1] ** 2 - 1])


def penalty_1(x: Tensor) -> Tensor:
    return torch.cat([1e-5**0.5 * (x - 1), (x.square().sum() - 0.25)[None]])


def penalty_2(x: Tensor) -> Tensor:
    n = len(x)
    i = torch.arange(2, n + 1, dtype=torch.float64)
    y = torch.exp(i / 10) + torch.exp((i - 1) / 10)
    grown = torch.exp(x / 10)
    smooth = torch.cat([grown[1:] + grown[:-1] - y, grown[1:] - torch.exp(_tensor(-0.1))])
    square = ((n - torch.arange(n, dtype=torch.float64)) * x**2).sum() - 1
    return torch.cat([x[:1] - 0.2, 1e-5**0.5 * smooth, square[None]])


def variably_dimensioned(x: Tensor) -> Tensor:
    total = (_count(len(x)) * (x - 1)).sum()
    return torch.cat([x - 1, total[None], total[None] ** 2])


def trigonometric(x: Tensor) -> Tensor:
    n = len(x)
    return n - x.cos().sum() + _count(n) * (1 - x.cos()) - x.sin()


def brown_almost_linear(x: Tensor) -> Tensor:
    n = len(x)
    return torch.cat([x[:-1] + x.sum() - (n + 1), x.prod()[None] - 1])


def _neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    zero = x.new_zeros(1)
    return torch.cat([zero, x[:-1]]), torch.cat([x[1:], zero])


def discrete_boundary_value(x: Tensor) -> Tensor:
    h = 1 / (len(x) + 1)
    left, right = _neighbours(x)
    return 2 * x - left - right + h**2 * (x + h * _count(len(x)) + 1) ** 3 / 2


def discrete_integral_equation(x: Tensor) -> Tensor:
    h = 1 / (len(x) + 1)
    t = h * _count(len(x))
    cubes = (x + t + 1) ** 3
    kernel = torch.minimum(t[:, None], t) * (1 - torch.maximum(t[:, None], t))
    return x + h * (kernel @ cubes) / 2


def broyden_tridiagonal(x: Tensor) -> Tensor:
    left, right = _neighbours(x)
    return (3 - 2 * x) * x - left - 2 * right + 1


def broyden_banded(x: Tensor) -> Tensor:
    i = torch.arange(len(x))
    apart = i[:, None] - i
    near = ((apart >= -1) & (apart <= 5) & (apart != 0)).double()
    return x * (2 + 5 * x**2) + 1 - near @ (x * (1 + x))


def linear_full_rank(x: Tensor) -> Tensor:
    m = 2 * len(x)
    return torch.cat([x, x.new_zeros(m - len(x))]) - 2 * x.sum() / m - 1


def linear_rank_1(x: Tensor) -> Tensor:
    n = len(x)
    return _count(2 * n) * (_count(n) * x).sum() - 1


def linear_rank_1_zeros(x: Tensor) -> Tensor:
    n = len(x)
    i = torch.cat([_tensor(0), _count(2 * n - 2), _tensor(0)])
    return i * (_count(n) * x)[1:-1].sum() - 1


def chebyquad(x: Tensor) -> Tensor:
    shifted = 2 * x - 1
    previous, current, means = torch.ones_like(x), shifted, []
    for _ in range(max(8, len(x))):
        means.append(current.mean())
        previous, current = current, 2 * shifted * current - previous
    i = _count(len(means))
    return torch.stack(means) + torch.where(i % 2 == 0, 1 / (i**2 - 1), 0.0)


def cases() -> list[Case]:
    """Every problem in every size, from its standard starting point."""
    fixed: list[tuple[Residual, tuple[float, ...]]] = [
        (freudenstein_roth, (0.5, -2)),
        (powell_badly_scaled, (0, 1)),
        (brown_badly_scaled, (1, 1)),
        (beale, (1, 1)),
        (jennrich_sampson, (0.3, 0.4)),
        (helical_valley, (-1, 0, 0)),
        (bard, (1, 1, 1)),
        (gaussian, (0.4, 1, 0)),
        (meyer, (0.02, 4000, 250)),
        (gulf, (5, 2.5, 0.15)),
        (box, (0, 10, 20)),
        (wood, (-3, -1, -3, -1)),
        (kowalik_osborne, (0.25, 0.39, 0.415, 0.39)),
        (brown_dennis, (25, 5, -5, -1)),
        (osborne_1, (0.5, 1.5, -1, 0.01, 0.02)),
        (biggs_exp6, (1, 2, 1, 1, 1, 1)),
        (osborne_2, (1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5)),
    ]
    found = [Case(f.__name__, f, _tensor(*start)) for f, start in fixed]

    def boundary(n: int) -> Tensor:
        t = _count(n) / (n + 1)
        return t * (t - 1)

    sized: list[tuple[Residual, tuple[int, ...], Callable[[int], Tensor]]] = [
        (rosenbrock, (2, 10, 20), lambda n: _tensor(-1.2, 1).repeat(n // 2)),
        (powell_singular, (4, 12, 20), lambda n: _tensor(3, -1, 0, 1).repeat(n // 4)),
        (watson, (6, 9, 12, 20), lambda n: _tensor(0).repeat(n)),
        (penalty_1, (4, 10, 20), _count),
        (penalty_2, (4, 10, 20), lambda n: _tensor(0.5).repeat(n)),
        (variably_dimensioned, (5, 10, 20), lambda n: 1 - _count(n) / n),
        (trigonometric, (5, 10, 20), lambda n: _tensor(1 / n).repeat(n)),
        (brown_almost_linear, (5, 10, 20), lambda n: _tensor(0.5).repeat(n)),
        (discrete_boundary_value, (5, 10, 20), boundary),
        (discrete_integral_equation, (5, 10, 20), boundary),
        (broyden_tridiagonal, (5, 10, 20), lambda n: _tensor(-1).repeat(n)),
        (broyden_banded, (5, 10, 20), lambda n: _tensor(-1).repeat(n)),
        (linear_full_rank, (5, 10, 20), lambda n: _tensor(1).repeat(n)),
        (linear_rank_1, (5, 10, 20), lambda n: _tensor(1).repeat(n)),
        (linear_rank_1_zeros, (5, 10, 20), lambda n: _tensor(1).repeat(n)),
        (chebyquad, (5, 8, 9, 10, 20), lambda n: _count(n) / (n + 1)),
    ]
    for f, sizes, start in sized:
        found += [Case(f"{f.__name__} {n}", f, start(n)) for n in sizes]
    return found


MINIMISATION = (
    *("helical_valley", "biggs_exp6", "gaussian", "powell_badly_scaled", "box"),
    *("variably_dimensioned 10", "watson 6", "penalty_1 10", "penalty_2 4", "brown_badly_scaled"),
    *("brown_dennis", "gulf", "trigonometric 10", "rosenbrock 2", "powell_singular 4", "beale"),
    *("wood", "chebyquad 8"),
)
"""The problems that the paper's software has for unconstrained minimisation, in its order."""


def minimisation_cases() -> list[Case]:
    """The 18 problems whose sum of squares is minimised as any function."""
    found = {case.name: case for case in cases()}
    return [found[name] for name in MINIMISATION]
