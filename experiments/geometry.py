"""Information geometry, statement by statement: a table of checks and one page of figures.

    python -m experiments.geometry            table, runs/geometry.html and runs/geometry.jsonl
    python -m experiments.geometry --seed 1

Each line of the table names a statement, what was measured, what the statement predicts and, where
it has one, a control to compare with.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Exponential, MultivariateNormal, Normal

from experiments.options import command_line
from fisherbo.geometry import (
    coordinates,
    fisher_information,
    fisher_inner,
    fisher_rao_distance,
    from_coordinates,
    geodesic,
    jeffreys_prior,
    kl,
    natural_gradient,
    push_forward,
    push_tangent,
)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True)
class Check:
    """A statement, what was measured of it, what it predicts, and its control."""

    statement: str
    measured: str
    predicted: str
    control: str = "–"


Section = tuple[list[Check], go.Figure]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kl_is_half_the_squared_length(seed: int) -> Section:
    """KL(p_θ ‖ p_θ+δ) / (½ δᵀFδ) → 1 as δ → 0."""
    t = torch.tensor
    members = {
        "Bernoulli": Bernoulli(probs=t(0.3, dtype=torch.float64)),
        "Categorical": Categorical(probs=t([0.2, 0.3, 0.5], dtype=torch.float64)),
        "Exponential": Exponential(t(2.0, dtype=torch.float64)),
        "Normal": Normal(t(0.5, dtype=torch.float64), t(1.5, dtype=torch.float64)),
    }
    lengths = np.logspace(-3, -0.7, 24)
    figure = go.Figure()
    worst = 0.0
    for colour, (name, p) in zip(COLOURS, members.items(), strict=False):
        theta, fisher = coordinates(p), fisher_information(p)
        direction = torch.randn(theta.shape, generator=generator(seed), dtype=torch.float64)
        direction /= direction.norm()
        ratios = []
        for length in lengths:
            delta = length * 0.5 * direction
            half = 0.5 * delta @ fisher @ delta
            ratios.append((kl(p, from_coordinates(p, theta + delta)) / half).item())
        worst = max(worst, abs(ratios[0] - 1))
        figure.add_scatter(x=lengths, y=ratios, name=name, line={"color": colour})
    figure.update_xaxes(type="log", title="length of δ (Euclidean)")
    figure.update_yaxes(title="KL / ½ δᵀFδ")
    figure.update_layout(title="KL is half the squared Fisher length")
    check = Check("KL = ½ δᵀFδ + O(δ³)", f"|ratio − 1| ≤ {worst:.1e} at |δ| = 5e-4", "→ 0")
    return [check], figure


def invariance(seed: int) -> Section:
    """Gradient flow of KL(q ‖ N(μ, σ)) in (μ, σ) and in (μ, log σ): natural and Euclidean."""
    target = Normal(torch.tensor(2.0, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64))
    charts: dict[str, Callable[[Tensor], Tensor]] = {
        "(μ, σ)": lambda phi: phi,
        "(μ, log σ)": lambda phi: torch.stack([phi[0], phi[1].exp()]),
    }
    start = {"(μ, σ)": [0.0, 2.0], "(μ, log σ)": [0.0, math.log(2.0)]}
    figure = go.Figure()
    ends: dict[str, list[Tensor]] = {"natural": [], "Euclidean": []}
    for kind, dash in (("natural", "solid"), ("Euclidean", "dot")):
        for colour, (name, chart) in zip(COLOURS, charts.items(), strict=False):
            path = flow(target, chart, start[name], natural=kind == "natural")
            ends[kind].append(path)
            figure.add_scatter(
                x=path[:, 0], y=path[:, 1], name=f"{kind}, {name}",
                line={"color": colour, "dash": dash, "width": 4 if dash == "solid" else 2},
                opacity=0.7,
            )  # fmt: skip
    gap = {kind: (a - b).abs().max().item() for kind, (a, b) in ends.items()}
    figure.update_xaxes(title="μ")
    figure.update_yaxes(title="σ")
    figure.update_layout(title="Natural trajectories do not depend on the chart")
    check = Check(
        "the natural gradient ignores the chart",
        f"largest gap of the trajectories {gap['natural']:.1e}",
        "O(step)",
        f"Euclidean gradient: gap {gap['Euclidean']:.2f}",
    )
    return [check], figure


def flow(
    target: Normal, chart: Callable[[Tensor], Tensor], start: list[float], *, natural: bool
) -> Tensor:
    """Trajectory in (μ, σ) of 1000 small gradient steps on KL(target ‖ model)."""
    phi = torch.tensor(start, dtype=torch.float64)
    path = [chart(phi)]
    for _ in range(1000):
        free = phi.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(kl(target, Normal(*chart(free))), free)
        if natural:
            jacobian = torch.autograd.functional.jacobian(chart, phi)
            fisher = jacobian.mT @ fisher_information(Normal(*chart(phi))) @ jacobian
            gradient = natural_gradient(fisher, gradient)
        phi = phi - 2e-3 * gradient
        path.append(chart(phi))
    return torch.stack(path)


def jeffreys(seed: int) -> Section:
    """√det F of the Bernoulli, normalised, is Beta(½, ½), from either chart."""
    p = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    root = fisher_information(Bernoulli(probs=p))[:, 0, 0].sqrt()
    in_logits = fisher_information(Bernoulli(probs=p), parameters="logits")[:, 0, 0].sqrt()
    carried = in_logits / (p * (1 - p))  # the density in logits, carried to p
    beta = jeffreys_prior(Bernoulli(probs=p[:1]))
    density = beta.log_prob(p[:, None] if beta.batch_shape else p).exp().flatten()
    gap = (root / math.pi / density - 1).abs().max().item()
    chart_gap = (carried / root - 1).abs().max().item()
    figure = go.Figure()
    figure.add_scatter(x=p, y=density, name="Beta(½, ½)", line={"color": COLOURS[0], "width": 5})
    figure.add_scatter(x=p, y=root / math.pi, name="√F/π", line={"color": COLOURS[1]})
    figure.update_layout(title="Jeffreys prior of the Bernoulli")
    figure.update_xaxes(title="p")
    figure.update_yaxes(title="density")
    checks = [
        Check("√F/π is the density of Beta(½, ½)", f"relative gap {gap:.1e}", "0"),
        Check("Jeffreys prior ignores the chart", f"relative gap {chart_gap:.1e}", "0"),
    ]
    return checks, figure


def cencov(seed: int) -> Section:
    """Markov kernels contract the Fisher length; the Euclidean one can grow."""
    rng = np.random.default_rng(seed)
    fisher, euclid = [], []
    for _ in range(2000):
        p = Categorical(torch.from_numpy(rng.dirichlet(np.ones(4))))
        kernel = torch.from_numpy(rng.dirichlet(np.full(3, 0.3), size=4))
        tangent = torch.from_numpy(rng.standard_normal(4))
        tangent -= tangent.mean()
        q, image = push_forward(p, kernel), push_tangent(tangent, kernel)
        fisher.append(float(fisher_inner(q, image, image) / fisher_inner(p, tangent, tangent)))
        euclid.append(float(image @ image / (tangent @ tangent)))
    figure = go.Figure()
    bins = {"start": 0, "end": 3, "size": 0.05}
    for colour, name, values in zip(
        COLOURS, ("Fisher", "Euclidean"), (fisher, euclid), strict=False
    ):
        figure.add_histogram(x=values, name=name, marker_color=colour, opacity=0.6, xbins=bins)
    figure.add_vline(x=1, line_dash="dash")
    figure.update_layout(title="Čencov: lengths under random Markov kernels", barmode="overlay")
    figure.update_xaxes(title="squared length after / before")
    figure.update_yaxes(title="kernels")
    check = Check(
        "Markov kernels contract the Fisher metric",
        f"largest ratio {max(fisher):.4f} of 2000",
        "≤ 1",
        f"Euclidean: {np.mean(np.array(euclid) > 1):.0%} of ratios above 1",
    )
    return [check], figure


def geodesics(seed: int) -> Section:
    """Geodesics of the normal family are half-ellipses; lengths add up along them."""
    t = torch.linspace(0, 1, 61, dtype=torch.float64)
    starts = [((0.0, 1.0), (1.0, 2.0)), ((-2.0, 0.5), (2.0, 0.5)), ((-1.0, 2.0), (-1.0, 0.3))]
    figure = go.Figure()
    worst = 0.0
    for colour, (a, b) in zip(COLOURS, starts, strict=False):
        p, q = Normal(*torch.tensor(a).double()), Normal(*torch.tensor(b).double())
        whole = fisher_rao_distance(p, q)
        points = [geodesic(p, q, float(s)) for s in t]
        split = torch.stack([fisher_rao_distance(p, m) for m in points])
        worst = max(worst, (split - t * whole).abs().max().item())
        x, y = torch.stack([coordinates(m) for m in points]).T.tolist()
        name = f"{a} – {b}, d = {whole.item():.3f}"
        figure.add_scatter(x=x, y=y, name=name, line={"color": colour})
    figure.update_layout(title="Geodesics of the normal family")
    figure.update_xaxes(title="μ")
    figure.update_yaxes(title="σ")
    check = Check("d(p, γ(t)) = t·d(p, q)", f"largest gap {worst:.1e}", "0")
    return [check], figure


def em_is_a_natural_step(seed: int) -> Section:
    """One EM step on mixture weights is one natural-gradient step of length 1."""
    rng = generator(seed)
    densities = torch.rand(400, 3, generator=rng, dtype=torch.float64) + 0.05
    weights = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    em_path, natural_path = [weights], [weights]
    for _ in range(12):
        w = em_path[-1]
        em_path.append((densities * w / (densities @ w)[:, None]).mean(0))
        w = natural_path[-1]
        free = w[:-1].clone().requires_grad_(True)
        full = torch.cat([free, 1 - free.sum()[None]])
        (gradient,) = torch.autograd.grad((densities @ full).log().mean(), free)
        moved = free.detach() + natural_gradient(fisher_information(Categorical(w)), gradient)
        natural_path.append(torch.cat([moved, 1 - moved.sum()[None]]))
    gap = (torch.stack(em_path) - torch.stack(natural_path)).abs().max().item()
    figure = go.Figure()
    for k in range(3):
        figure.add_scatter(
            y=[w[k].item() for w in em_path], name=f"weight {k + 1}, EM", mode="lines",
            line={"color": COLOURS[k], "width": 5}, opacity=0.4,
        )  # fmt: skip
        figure.add_scatter(
            y=[w[k].item() for w in natural_path], name=f"weight {k + 1}, natural", mode="markers",
            marker={"color": COLOURS[k]},
        )  # fmt: skip
    figure.update_layout(title="EM on mixture weights = natural steps of length 1")
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="mixture weight")
    return [
        Check("an EM step is a natural step", f"largest gap {gap:.1e}", "0 to rounding")
    ], figure


def conjugate_step(seed: int) -> Section:
    """One natural step of length 1 on the variational bound lands on the exact posterior."""
    rng = generator(seed)
    design = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    y = torch.randn(20, generator=rng, dtype=torch.float64)
    noise = 0.3
    precision = design.mT @ design / noise + torch.eye(3, dtype=torch.float64)
    mean = torch.linalg.solve(precision, design.mT @ y / noise)
    root = torch.randn(3, 3, generator=rng, dtype=torch.float64)
    start_precision = root @ root.mT + torch.eye(3, dtype=torch.float64)
    start_mean = torch.randn(3, generator=rng, dtype=torch.float64)

    def bound(m: Tensor, second: Tensor) -> Tensor:
        """E[log p(y, w)] + entropy of N(m, second − m mᵀ): its expectation coordinates."""
        covariance = second - torch.outer(m, m)
        expected = y @ design @ m / noise - 0.5 * (precision * second).sum()
        return expected + 0.5 * torch.logdet(covariance)

    start_second = torch.linalg.inv(start_precision) + torch.outer(start_mean, start_mean)
    # the gradient in expectation coordinates is the natural gradient in the natural ones
    by_mean, by_second = torch.autograd.functional.jacobian(bound, (start_mean, start_second))
    rates, gaps = np.linspace(0, 1.4, 15), []
    exact = MultivariateNormal(mean, precision_matrix=precision)
    for rate in rates:
        linear = start_precision @ start_mean + rate * by_mean  # θ₁ = Σ⁻¹m
        new = start_precision - 2 * rate * by_second  # θ₂ = −½ Σ⁻¹
        reached = MultivariateNormal(torch.linalg.solve(new, linear), precision_matrix=new)
        gaps.append(kl(reached, exact).item())
    figure = go.Figure(go.Scatter(x=rates, y=np.maximum(gaps, 1e-17), line={"color": COLOURS[0]}))
    figure.update_yaxes(type="log", title="KL(reached ‖ exact posterior) / nats")
    figure.update_xaxes(title="length of the natural step")
    figure.update_layout(title="Conjugate step: length 1 lands on the posterior")
    at_one = gaps[int(np.argmin(np.abs(rates - 1)))]
    control = f"length 0.5: {gaps[int(np.argmin(np.abs(rates - 0.5)))]:.2f} nats"
    return [Check("one conjugate step is exact", f"KL {at_one:.1e} nats", "0", control)], figure


def newton(seed: int) -> Section:
    """Hessian = Fisher in natural coordinates; elsewhere the Hessian is indefinite, F never."""
    logits = torch.linspace(-4, 4, 81, dtype=torch.float64)
    label = 1.0

    def loss(p: Tensor) -> Tensor:
        return -(label * p.log() + (1 - label) * (1 - p).log())

    def second(chart: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
        return torch.stack(
            [torch.autograd.functional.hessian(lambda v: loss(chart(v)), v) for v in at]
        )

    in_logits = second(torch.sigmoid, logits)
    fisher = fisher_information(Bernoulli(logits=logits), parameters="logits")[:, 0, 0]
    gap = (in_logits - fisher).abs().max().item()

    def odd(v: Tensor) -> Tensor:
        """A chart in which the loss is not convex: p = sigmoid(v³)."""
        return torch.sigmoid(v**3)

    v = torch.linspace(-1.4, 1.4, 81, dtype=torch.float64)
    hessian = second(odd, v)
    pulled = (3 * v**2) ** 2 * torch.sigmoid(v**3) * torch.sigmoid(-(v**3))
    figure = make_subplots(1, 2, subplot_titles=("natural coordinate", "another chart, p = S(v³)"))
    for column, x, h, f in ((1, logits, in_logits, fisher), (2, v, hessian, pulled)):
        place = {"row": 1, "col": column, "showlegend": column == 1}
        figure.add_scatter(
            x=x, y=h, name="Hessian", line={"color": COLOURS[1], "width": 5}, **place
        )
        figure.add_scatter(x=x, y=f, name="Fisher", line={"color": COLOURS[0]}, **place)
    figure.update_layout(title="Newton and natural gradient")
    figure.update_yaxes(title="curvature", col=1)
    check = Check(
        "Hessian = Fisher in natural coordinates",
        f"largest gap {gap:.1e}",
        "0",
        f"another chart: Hessian down to {hessian.min():.2f}, Fisher ≥ {pulled.min():.2f}",
    )
    return [check], figure


def adam(seed: int) -> Section:
    """Adam's v_t against the diagonal of the empirical Fisher of a small network."""
    rng = generator(seed)
    x = torch.randn(64, 6, generator=rng)
    y = torch.randint(3, (64,), generator=rng)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.4, generator=rng)
    loss = torch.nn.functional.cross_entropy
    weights = list(model.parameters())
    rows = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(loss(model(x[i : i + 1]), y[i : i + 1]), weights)
            ]
        )
        for i in range(64)
    ]
    diagonal = torch.stack(rows).square().mean(0)
    optimizer = torch.optim.Adam(weights, lr=0.0, betas=(0.9, 0.999))
    steps = 4000
    for _ in range(steps):
        i = int(torch.randint(64, (1,), generator=rng))
        optimizer.zero_grad()
        loss(model(x[i : i + 1]), y[i : i + 1]).backward()
        optimizer.step()
    v = torch.cat([optimizer.state[p]["exp_avg_sq"].flatten() for p in weights])
    v = v / (1 - 0.999**steps)
    correlation = np.corrcoef(v.log(), diagonal.log())[0, 1]
    figure = go.Figure(go.Scatter(x=diagonal, y=v, mode="markers", marker={"color": COLOURS[0]}))
    figure.update_xaxes(type="log", title="diagonal of the empirical Fisher")
    figure.update_yaxes(type="log", title="Adam's v, batches of one row")
    figure.update_layout(title="Adam's v tracks the diagonal of the empirical Fisher")
    check = Check(
        "Adam's v_t tracks the empirical Fisher's diagonal (batch size 1, still weights)",
        f"correlation of logarithms {correlation:.3f}",
        "→ 1",
        "Adam divides by its square root",
    )
    return [check], figure


def kronecker_cost(seed: int) -> Section:
    """Seconds to invert A ⊗ G by its factors and densely, for d × d weights."""
    kronecker_sizes, dense_sizes = [32, 64, 128, 256, 512, 1024], [8, 12, 16, 24, 32, 44]
    rng = generator(seed)

    def factor(d: int) -> Tensor:
        root = torch.randn(d, d, generator=rng, dtype=torch.float64)
        return root @ root.mT / d + torch.eye(d, dtype=torch.float64)

    def seconds(work: Callable[[], object]) -> float:
        best = math.inf
        for _ in range(3):
            start = time.process_time()
            work()
            best = min(best, time.process_time() - start)
        return best

    def both(d: int) -> Callable[[], object]:
        a, g = factor(d), factor(d)
        return lambda: (torch.linalg.inv(a), torch.linalg.inv(g))

    def whole(d: int) -> Callable[[], object]:
        matrix = torch.kron(factor(d), factor(d))
        return lambda: torch.linalg.inv(matrix)

    by_factors = [seconds(both(d)) for d in kronecker_sizes]
    densely = [seconds(whole(d)) for d in dense_sizes]

    def exponent(sizes: list[int], times: list[float]) -> float:
        return float(np.polyfit(np.log(sizes[-3:]), np.log(times[-3:]), 1)[0])

    figure = go.Figure()
    for colour, name, sizes, times in (
        (COLOURS[0], "Kronecker factors", kronecker_sizes, by_factors),
        (COLOURS[1], "dense", dense_sizes, densely),
    ):
        figure.add_scatter(x=sizes, y=times, name=name, line={"color": colour})
    figure.update_xaxes(type="log", title="d (weights are d × d)")
    figure.update_yaxes(type="log", title="CPU seconds")
    figure.update_layout(title="Inverting A ⊗ G: d³ against d⁶")
    check = Check(
        "cost of (A ⊗ G)⁻¹ = A⁻¹ ⊗ G⁻¹ grows as d³",
        f"exponent {exponent(kronecker_sizes, by_factors):.2f} (largest three sizes)",
        "3 when BLAS dominates",
        f"dense: exponent {exponent(dense_sizes, densely):.2f}, predicted 6",
    )
    return [check], figure


SECTIONS: tuple[Callable[[int], Section], ...] = (
    kl_is_half_the_squared_length,
    invariance,
    jeffreys,
    cencov,
    geodesics,
    em_is_a_natural_step,
    conjugate_step,
    newton,
    adam,
    kronecker_cost,
)


def page(figures: Sequence[go.Figure]) -> str:
    """One HTML page that needs no network."""
    divs = [
        figure.update_layout(template="plotly_white", height=440, width=820).to_html(
            full_html=False, include_plotlyjs=i == 0
        )
        for i, figure in enumerate(figures)
    ]
    style = "<style>body{font-family:sans-serif;max-width:840px;margin:2em auto}</style>"
    title = "Information geometry, statement by statement"
    head = f"<!doctype html><meta charset=utf-8><title>{title}</title>{style}<h1>{title}</h1>"
    return head + "".join(divs)


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("geometry", __doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of the results")
    args = parser.parse_args(argv)
    sections = [section(args.seed) for section in track(SECTIONS, "geometry")]
    checks = [check for found, _ in sections for check in found]
    args.output.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(asdict(check), ensure_ascii=False) + "\n" for check in checks)
    (args.output / "geometry.jsonl").write_text(lines)
    (args.output / "geometry.html").write_text(page([figure for _, figure in sections]))
    table = Table(title="Information geometry, statement by statement", show_lines=True)
    for name in ("statement", "measured", "predicted", "control"):
        table.add_column(name)
    for check in checks:
        table.add_row(*asdict(check).values())
    Console(width=150).print(table)
    print(f"figures: {args.output / 'geometry.html'}")


if __name__ == "__main__":
    main()
