"""Small problems with several constraints whose optimum is published, in the literature's formulas.

Each is ``(x) -> (f, g)``: minimise f where every g is at most 0.

    [A] Amir & Hasegawa (1989), J. Struct. Eng. 115   [C] Coello (2000), Computers in Industry 41
    [G] Gandomi, Yang & Alavi (2013), Engineering with Computers 29   [Gu] Gu et al. (2001), IJVD 26
    [L] Liang et al. (2006), problem definitions of the CEC 2006 competition   [R] Rao, Savsani &
    Vakharia (2011), Computer-Aided Design 43   [Gr] Gramacy et al. (2016), Technometrics 58
    [W] Wang (2003), J. Mechanical Design 125
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, log, pi, radians, sin, sqrt

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

X = Sequence[float]
Formula = Callable[[X], tuple[float, Sequence[float]]]


@dataclass(frozen=True)
class Design:
    """A problem.

    Attributes:
        formula: Objective and constraints at a point.
        bounds: Of each variable; integers if both are of type int.
        best: The best point that is published, with as many digits.
        value: Its objective.
    """

    formula: Formula
    bounds: Sequence[tuple[float, float]]
    best: X
    value: float

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """Distributions of the variables, named x00, x01 and so on."""
        return {f"x{j:02d}": _distribution(*b) for j, b in enumerate(self.bounds)}


def _distribution(low: float, high: float) -> BaseDistribution:
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high)
    return FloatDistribution(low, high)


_DEFLECTION = (1.0, 0.85, 0.77, 0.71, 0.66, 0.63, 0.60, 0.58, 0.56, 0.55, 0.53, 0.52, 0.51, 0.51)
"""Share of the height at which a Belleville spring is flat, at height / thickness 1.4, 1.5, …"""


def belleville_spring(x: X) -> tuple[float, Sequence[float]]:
    """Mass of a disc spring: thickness, height, inner and outer diameter [R]."""
    t, h, inner, outer = x
    if outer <= inner:  # the formulas end here; the fourth constraint tells how far
        return _mass_of_disc(t, inner, outer), (1e6, 1e4, 1.0, h + t - 2, inner - outer, 1.0)
    ratio, stretch, poisson, modulus, load = outer / inner, 0.2, 0.3, 30e6, 5400.0
    part = 6 / (pi * log(ratio))
    alpha = part * ((ratio - 1) / ratio) ** 2
    beta, gamma = part * ((ratio - 1) / log(ratio) - 1), part * (ratio - 1) / 2
    stiffness = 4 * modulus * stretch / ((1 - poisson**2) * alpha * outer**2)
    place = (h / t - 1.4) / 0.1  # in the table, which is interpolated
    k = int(min(max(place, 0.0), 13.0))
    after = _DEFLECTION[k + 1] if k < 13 else 0.5
    share = _DEFLECTION[k] + (after - _DEFLECTION[k]) * min(max(place - k, 0.0), 1.0)
    return _mass_of_disc(t, inner, outer), (
        stiffness * (beta * (h - stretch / 2) + gamma * t) - 200e3,
        load - stiffness * ((h - stretch / 2) * (h - stretch) * t + t**3),
        stretch - share * h,
        h + t - 2,
        inner - outer,
        h / (outer - inner) - 0.3,
    )


def _mass_of_disc(t: float, inner: float, outer: float) -> float:
    return 0.07075 * pi * (outer**2 - inner**2) * t


def bulkhead(x: X) -> tuple[float, Sequence[float]]:
    """Mass of a corrugated bulkhead of a tanker: width, depth, length, plate thickness [G]."""
    b, h, l, t = x  # noqa: E741 (the literature's names)
    span = b + sqrt(abs(l**2 - h**2)) + 1e-12
    return 5.885 * t * (b + l) / span, (
        -t * h * (0.4 * b + l / 6) + 8.94 * span,
        -t * h**2 * (0.2 * b + l / 12) + 2.2 * (8.94 * span) ** (4 / 3),
        -t + 0.0156 * b + 0.15,
        -t + 0.0156 * l + 0.15,
        1.05 - t,
        h - l,
    )


def car_side_impact(x: X) -> tuple[float, Sequence[float]]:
    """Mass of a car's side in a crash [Gu], its formulas as in [G]; two materials of two kinds."""
    a, b, c, d, e, f, g = x[:7]
    h, i = (0.192 if kind == 0 else 0.345 for kind in x[7:9])
    j, k = x[9:]
    mass = 1.98 + 4.90 * a + 6.67 * b + 6.98 * c + 4.01 * d + 1.78 * e + 2.73 * g
    abdomen = 1.16 - 0.3717 * b * d - 0.00931 * b * j - 0.484 * c * i + 0.01343 * f * j
    upper_speed = 0.261 - 0.0159 * a * b - 0.188 * a * h - 0.019 * b * g + 0.0144 * c * e
    upper_speed += 0.0008757 * e * j + 0.080405 * f * i + 0.00139 * h * k + 0.00001575 * j * k
    middle_speed = 0.214 + 0.00817 * e - 0.131 * a * h - 0.0704 * a * i + 0.03099 * b * f
    middle_speed += -0.018 * b * g + 0.0208 * c * h + 0.121 * c * i - 0.00364 * e * f
    middle_speed += 0.0007715 * e * j - 0.0005354 * f * j + 0.00121 * h * k + 0.00184 * i * j
    middle_speed -= 0.02 * b**2
    lower_speed = 0.74 - 0.61 * b - 0.163 * c * h + 0.001232 * c * j - 0.166 * g * i
    lower_speed += 0.227 * b**2
    upper = 28.98 + 3.818 * c - 4.2 * a * b + 0.0207 * e * j + 6.63 * f * i - 7.7 * g * h
    upper += 0.32 * i * j
    middle = 33.86 + 2.95 * c + 0.1792 * j - 5.057 * a * b - 11.0 * b * h - 0.0215 * e * j
    middle += -9.98 * g * h + 22.0 * h * i
    lower = 46.36 - 9.9 * b - 12.9 * a * h + 0.1107 * c * j
    pubic = 4.72 - 0.5 * d - 0.19 * b * c - 0.0122 * d * j + 0.009325 * f * j + 0.000191 * k**2
    pillar = 10.58 - 0.674 * a * b - 1.95 * b * h + 0.02054 * c * j - 0.0198 * d * j
    pillar += 0.028 * f * j
    door = 16.45 - 0.489 * c * g - 0.843 * e * f + 0.0432 * i * j - 0.0556 * i * k
    door -= 0.000786 * k**2
    speeds = upper_speed - 0.32, middle_speed - 0.32, lower_speed - 0.32
    deflections = upper - 32, middle - 32, lower - 32
    return mass, (abdomen - 1, *speeds, *deflections, pubic - 4, pillar - 9.9, door - 15.7)


def clutch_brake(x: X) -> tuple[float, Sequence[float]]:
    """Mass of a multiple disc clutch brake: radii, thickness, force, friction surfaces [R]."""
    inner, outer = 60 + x[0], 90 + x[1]
    thickness, force, surfaces = 1 + 0.5 * x[2], 600 + 10 * x[3], x[4]
    area, cubes = outer**2 - inner**2, outer**3 - inner**3
    torque = 1e-3 * 2 / 3 * 0.5 * force * surfaces * cubes / area
    pressure = force / (pi * area)
    speed = 1e-3 * 2 * pi * 250 * cubes / (90 * area)
    time = 55 * pi * 250 / (30 * (torque + 3))
    return pi * area * thickness * (surfaces + 1) * 7.8e-6, (
        inner + 20 - outer,
        (surfaces + 1) * (thickness + 0.5) - 30,
        pressure - 1,
        pressure * speed - 10,
        speed - 10,
        time - 15,
        60 - torque,
    )


def column(x: X) -> tuple[float, Sequence[float]]:
    """Cost of a tubular column: diameter and thickness; it yields, or it buckles [G]."""
    d, t = x
    buckling = 8 * 2500 * 250**2 / (pi**3 * 0.85e6 * d * t * (d**2 + t**2))
    return 9.8 * d * t + 2 * d, (2500 / (pi * d * t * 500) - 1, buckling - 1)


def heat_exchanger(x: X) -> tuple[float, Sequence[float]]:
    """Area of three heat exchangers: g10 of [L]."""
    a, b, c, d, e, f, g, h = x
    return a + b + c, (
        0.0025 * (d + f) - 1,
        0.0025 * (e + g - d) - 1,
        0.01 * (h - e) - 1,
        -a * f + 833.33252 * d + 100 * a - 83333.333,
        -b * g + 1250 * e + b * d - 1250 * d,
        -c * h + 1250000 + c * e - 2500 * e,
    )


def himmelblau(x: X) -> tuple[float, Sequence[float]]:
    """Himmelblau's nonlinear problem: g04 of [L]."""
    a, b, c, d, e = x
    u = 85.334407 + 0.0056858 * b * e + 0.0006262 * a * d - 0.0022053 * c * e
    v = 80.51249 + 0.0071317 * b * e + 0.0029955 * a * b + 0.0021813 * c**2
    w = 9.300961 + 0.0047026 * c * e + 0.0012547 * a * c + 0.0019085 * c * d
    value = 5.3578547 * c**2 + 0.8356891 * a * e + 37.293239 * a - 40792.141
    return value, (u - 92, -u, v - 110, 90 - v, w - 25, 20 - w)


def i_beam(x: X) -> tuple[float, Sequence[float]]:
    """Deflection of an I-beam: height, width, thickness of web and flange [W]."""
    h, b, web, flange = x
    high = h - 2 * flange
    inertia = web * high**3 / 12 + b * flange**3 / 6 + 2 * b * flange * ((h - flange) / 2) ** 2
    first = web * high**3 + 2 * b * flange * (4 * flange**2 + 3 * h * high)
    second = high * web**3 + 2 * flange * b**3
    stress = 18e4 * h / first + 15e3 * b / second
    return 5000 / inertia, (2 * b * flange + web * high - 300, stress - 6)


def piston_lever(x: X) -> tuple[float, Sequence[float]]:
    """Oil volume of a piston that lifts a lever: H, B, X and the diameter D [G]."""
    h, b, place, d = x
    angle = radians(45)
    before = sqrt((place - b) ** 2 + h**2) + 1e-12
    rise, run = place * sin(angle) + h, b - place * cos(angle)
    after = sqrt(rise**2 + run**2)
    arm = abs(-place * rise + h * run) / before
    force = pi * 1500 * d**2 / 4
    return 0.25 * pi * d**2 * (after - before), (
        10000 * 240 * cos(angle) - arm * force,
        10000 * (240 - place) - 1.8e6,
        1.2 * (after - before) - before,
        d / 2 - b,
    )


def pressure_vessel(x: X) -> tuple[float, Sequence[float]]:
    """Cost of a vessel: sixteenths of an inch of shell and head, radius, length [C]."""
    shell, head, r, l = 0.0625 * x[0], 0.0625 * x[1], x[2], x[3]  # noqa: E741 (the literature's names)
    cost = 0.6224 * shell * r * l + 1.7781 * head * r**2
    cost += 3.1661 * shell**2 * l + 19.84 * shell**2 * r
    return cost, (
        0.0193 * r - shell,
        0.00954 * r - head,
        1296000 - pi * r**2 * l - 4 / 3 * pi * r**3,
    )


_STEEL = (6.0, 6.16, 6.32, 6.6, 7.0, 7.11, 7.2, 7.8, 7.9, 8.0, 8.4)


def reinforced_beam(x: X) -> tuple[float, Sequence[float]]:
    """Cost of a concrete beam: which reinforcement, depth, width [A]."""
    steel, b, h = _STEEL[int(x[0])], x[1], x[2]
    return 29.4 * steel + 0.6 * b * h, (b / h - 4, 180 + 7.375 * steel**2 / h - steel * b)


def speed_reducer(x: X) -> tuple[float, Sequence[float]]:
    """Mass of a gear box, with Golinski's eleven constraints [G]."""
    a, b, c, d, e, f, g = x
    mass = 0.7854 * a * b**2 * (3.3333 * c**2 + 14.9334 * c - 43.0934)
    mass += -1.508 * a * (f**2 + g**2) + 7.4777 * (f**3 + g**3)
    mass += 0.7854 * (d * f**2 + e * g**2)
    return mass, (
        27 / (a * b**2 * c) - 1,
        397.5 / (a * b**2 * c**2) - 1,
        1.93 * d**3 / (b * c * f**4) - 1,
        1.93 * e**3 / (b * c * g**4) - 1,
        sqrt((745 * d / (b * c)) ** 2 + 16.9e6) / (110 * f**3) - 1,
        sqrt((745 * e / (b * c)) ** 2 + 157.5e6) / (85 * g**3) - 1,
        b * c / 40 - 1,
        5 * b / a - 1,
        a / (12 * b) - 1,
        (1.5 * f + 1.9) / d - 1,
        (1.1 * g + 1.9) / e - 1,
    )


def spring(x: X) -> tuple[float, Sequence[float]]:
    """Mass of a tension/compression spring: diameters of wire and coil, number of coils [C]."""
    d, big, n = x
    shear = 12566 * (big * d**3 - d**4)
    shear = shear if abs(shear) > 1e-9 else 1e-9
    return (n + 2) * big * d**2, (
        1 - big**3 * n / (71785 * d**4),
        (4 * big**2 - d * big) / shear + 1 / (5108 * d**2) - 1,
        1 - 140.45 * d / (big**2 * n),
        (big + d) / 1.5 - 1,
    )


def three_bar_truss(x: X) -> tuple[float, Sequence[float]]:
    """Volume of a truss: two cross sections [G]."""
    a, b = x
    root = sqrt(2)
    below = root * a**2 + 2 * a * b
    return (2 * root * a + b) * 100, (
        2 * (root * a + b) / below - 2,
        2 * b / below - 2,
        2 / (a + root * b) - 2,
    )


def welded_beam(x: X) -> tuple[float, Sequence[float]]:
    """Cost of a welded beam: weld's height and length, beam's height and width [C]."""
    h, l, t, b = x  # noqa: E741 (the literature's names)
    load, length, young, shear_modulus = 6000.0, 14.0, 30e6, 12e6
    primary = load / (sqrt(2) * h * l)
    radius = sqrt(l**2 / 4 + ((h + t) / 2) ** 2)
    polar = 2 * sqrt(2) * h * l * (l**2 / 12 + ((h + t) / 2) ** 2)
    secondary = load * (length + l / 2) * radius / polar
    shear = sqrt(primary**2 + primary * secondary * l / radius + secondary**2)
    slender = 1 - t / (2 * length) * sqrt(young / (4 * shear_modulus))
    buckling = 4.013 * young * t * b**3 / 6 / length**2 * slender
    return 1.10471 * h**2 * l + 0.04811 * t * b * (14 + l), (
        shear - 13600,
        6 * load * length / (b * t**2) - 30000,
        h - b,
        0.10471 * h**2 + 0.04811 * t * b * (14 + l) - 5,
        0.125 - h,
        4 * load * length**3 / (young * b * t**3) - 0.25,
        load - buckling,
    )


def g06(x: X) -> tuple[float, Sequence[float]]:
    """A crescent of 0.007 % of the box [L]."""
    a, b = x
    inside = (a - 6) ** 2 + (b - 5) ** 2 - 82.81
    return (a - 10) ** 3 + (b - 20) ** 3, (100 - (a - 5) ** 2 - (b - 5) ** 2, inside)


def g07(x: X) -> tuple[float, Sequence[float]]:
    """A quadratic in ten variables with eight constraints, six of them active [L]."""
    a, b, c, d, e, f, g, h, i, j = x
    value = a**2 + b**2 + a * b - 14 * a - 16 * b + (c - 10) ** 2 + 4 * (d - 5) ** 2 + (e - 3) ** 2
    value += 2 * (f - 1) ** 2 + 5 * g**2 + 7 * (h - 11) ** 2 + 2 * (i - 10) ** 2 + (j - 7) ** 2
    return value + 45, (
        -105 + 4 * a + 5 * b - 3 * g + 9 * h,
        10 * a - 8 * b - 17 * g + 2 * h,
        -8 * a + 2 * b + 5 * i - 2 * j - 12,
        3 * (a - 2) ** 2 + 4 * (b - 3) ** 2 + 2 * c**2 - 7 * d - 120,
        5 * a**2 + 8 * b + (c - 6) ** 2 - 2 * d - 40,
        a**2 + 2 * (b - 2) ** 2 - 2 * a * b + 14 * e - 6 * f,
        0.5 * (a - 8) ** 2 + 2 * (b - 4) ** 2 + 3 * e**2 - f - 30,
        -3 * a + 6 * b + 12 * (i - 8) ** 2 - 7 * j,
    )


def g08(x: X) -> tuple[float, Sequence[float]]:
    """A wave with its optimum inside [L]."""
    a, b = x
    value = -(sin(2 * pi * a) ** 3) * sin(2 * pi * b) / (a**3 * (a + b))
    return value, (a**2 - b + 1, 1 - a + (b - 4) ** 2)


def g09(x: X) -> tuple[float, Sequence[float]]:
    """A polynomial in seven variables, two of four constraints active [L]."""
    a, b, c, d, e, f, g = x
    value = (a - 10) ** 2 + 5 * (b - 12) ** 2 + c**4 + 3 * (d - 11) ** 2 + 10 * e**6 + 7 * f**2
    return value + g**4 - 4 * f * g - 10 * f - 8 * g, (
        -127 + 2 * a**2 + 3 * b**4 + c + 4 * d**2 + 5 * e,
        -282 + 7 * a + 3 * b + 10 * c**2 + d - e,
        -196 + 23 * a + b**2 + 6 * f**2 - 8 * g,
        4 * a**2 + b**2 - 3 * a * b + 2 * c**2 + 5 * f - 11 * g,
    )


def g24(x: X) -> tuple[float, Sequence[float]]:
    """Two regions that do not touch [L]."""
    a, b = x
    return -a - b, (
        -2 * a**4 + 8 * a**3 - 8 * a**2 + b - 2,
        -4 * a**4 + 32 * a**3 - 88 * a**2 + 96 * a + b - 36,
    )


def gramacy(x: X) -> tuple[float, Sequence[float]]:
    """A linear objective with a wavy constraint [Gr]."""
    a, b = x
    wave = 1.5 - a - 2 * b - 0.5 * sin(2 * pi * (a**2 - 2 * b))
    return a + b, (wave, a**2 + b**2 - 1.5)


DESIGNS: Mapping[str, Design] = {
    "belleville_spring": Design(
        belleville_spring,
        ((0.01, 0.6), (0.05, 0.5), (5.0, 15.0), (5.0, 12.01)),
        (0.204143, 0.2, 10.030473, 12.01),
        1.979675,
    ),
    "bulkhead": Design(
        bulkhead,
        (*((0.0, 100.0),) * 3, (0.0, 5.0)),
        (57.69230769, 34.14762029, 57.69230769, 1.05),
        6.84295801,
    ),
    "car_side_impact": Design(
        car_side_impact,
        (*((0.5, 1.5),) * 7, *((0, 1),) * 2, *((-30.0, 30.0),) * 2),
        (0.5, 1.1167, 0.5, 1.30208, 0.5, 1.5, 0.5, 1, 0, -19.54935, -0.00431),
        22.84474,
    ),
    "clutch_brake": Design(
        clutch_brake, ((0, 20), (0, 20), (0, 4), (0, 40), (2, 9)), (10, 0, 0, 21, 3), 0.313656
    ),
    "column": Design(column, ((2.0, 14.0), (0.2, 0.8)), (5.45116, 0.29196), 26.49948),
    "heat_exchanger": Design(
        heat_exchanger,
        ((100.0, 1e4), (1000.0, 1e4), (1000.0, 1e4), *((10.0, 1000.0),) * 5),
        (
            *(579.306685017979589, 1359.97067807935605, 5109.97065743133317),
            *(182.01769963061534, 295.601173702746792, 217.982300369384632),
            *(286.41652592786852, 395.601173702746735),
        ),
        7049.24802052867,
    ),
    "himmelblau": Design(
        himmelblau,
        ((78.0, 102.0), (33.0, 45.0), *((27.0, 45.0),) * 3),
        (78, 33, 29.9952560256815985, 45, 36.7758129057882073),
        -30665.5386717834,
    ),
    "i_beam": Design(
        i_beam,
        ((10.0, 80.0), (10.0, 50.0), (0.9, 5.0), (0.9, 5.0)),
        (80, 50, 0.9, 2.32179),
        0.0130741,
    ),
    "piston_lever": Design(
        piston_lever,
        ((0.05, 500.0), (0.05, 500.0), (0.05, 120.0), (0.05, 500.0)),
        (0.05, 2.04151359, 120, 4.08302718),
        8.41269832,
    ),
    "pressure_vessel": Design(
        pressure_vessel,
        ((1, 99), (1, 99), (10.0, 200.0), (10.0, 200.0)),
        (13, 7, 42.0984456, 176.6365958),
        6059.714335,
    ),
    "reinforced_beam": Design(
        reinforced_beam, ((0, 10), (28, 40), (5.0, 10.0)), (2, 34, 8.5), 359.208
    ),
    "speed_reducer": Design(
        speed_reducer,
        ((2.6, 3.6), (0.7, 0.8), (17, 28), (7.3, 8.3), (7.3, 8.3), (2.9, 3.9), (5.0, 5.5)),
        (3.5, 0.7, 17, 7.3, 7.71532, 3.350215, 5.286654),
        2994.471066,
    ),
    "spring": Design(
        spring,
        ((0.05, 2.0), (0.25, 1.3), (2.0, 15.0)),
        (0.051689061, 0.356717741, 11.28896566),
        0.012665233,
    ),
    "three_bar_truss": Design(
        three_bar_truss, ((0.001, 1.0), (0.001, 1.0)), (0.78867513, 0.40824829), 263.8958434
    ),
    "welded_beam": Design(
        welded_beam,
        ((0.1, 2.0), (0.1, 10.0), (0.1, 10.0), (0.1, 2.0)),
        (0.2057296397860, 3.4704886656280, 9.0366239103578, 0.2057296397860),
        1.7248523085974,
    ),
    "g06": Design(
        g06,
        ((13.0, 100.0), (0.0, 100.0)),
        (14.095, 0.842960789215),
        -6961.81387558015,
    ),
    "g07": Design(
        g07,
        ((-10.0, 10.0),) * 10,
        (
            *(2.17199634142692, 2.3636830416034, 8.77392573913157, 5.09598443745173),
            *(0.990654756560493, 1.43057392853463, 1.32164415364306, 9.82872576524495),
            *(8.2800915887356, 8.3759266477347),
        ),
        24.30620906818,
    ),
    "g08": Design(
        g08, ((0.001, 10.0),) * 2, (1.22797135260752599, 4.24537336612274885), -0.0958250414180359
    ),
    "g09": Design(
        g09,
        ((-10.0, 10.0),) * 7,
        (
            *(2.33049935147405174, 1.95137236847114592, -0.477541399510615805),
            *(4.36572624923625874, -0.624486959100388983, 1.03813099410962173),
            1.5942266780671519,
        ),
        680.630057374402,
    ),
    "g24": Design(
        g24,
        ((0.0, 3.0), (0.0, 4.0)),
        (2.32952019747762, 3.17849307411774),
        -5.50801327159536,
    ),
    "gramacy": Design(gramacy, ((0.0, 1.0),) * 2, (0.1951, 0.4047), 0.5998),
}
