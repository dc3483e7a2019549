"""The Hessian of a loss surface: products with vectors, largest eigenvalues, trace with its interval."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wasam_core.options import whole
from wasam_core.probes.surface import LossSurface

try:
    import numpy as np
    import numpy.typing as npt
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
    from scipy.special import stdtrit
except ImportError as error:
    raise ImportError(
        "Curvature and sharpness are measured with SciPy and NumPy, and they are not installed: "
        "pip install 'wasam-core[probes]'."
    ) from error

CONFIDENCE = 0.95  # of the interval of a trace

# One product is a backward pass through the graph of forward and backward, about twice as long.
GRADIENTS_PER_PRODUCT = 2


@dataclass(frozen=True, slots=True)
class Eigenvalues:
    """The k algebraically largest eigenvalues of a Hessian.

    Attributes:
        values: In descending order; nan where one was not found (`converged` is False then).
        tolerance: The residual ||Hv - λv|| is at most this share of λ; the error of λ is then usually near its square.
        converged: Whether all residuals came below the tolerance.
        products: Hessian-vector products spent.
        n: Examples in the loss.
        vectors: ``(d, found)``, orthonormal, in the order of `values`.
    """

    values: tuple[float, ...]
    tolerance: float
    converged: bool
    products: int
    n: int
    vectors: Tensor = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Trace:
    """An unbiased estimate of a Hessian's trace.

    Attributes:
        value: The estimate.
        standard_error: Over the random probes alone, at these examples.
        low, high: The interval of 95 %; how often it covers the trace stands in `hutchinson_trace`.
        probes: Random vectors behind the standard error, one product each.
        n: Examples in the loss.
    """

    value: float
    standard_error: float
    low: float
    high: float
    probes: int
    n: int


class Hessian:
    """Multiply vectors by the Hessian of a loss surface at its weights.

    The graph of the gradient g is built once, and each product is one backward pass through it:
        H v = d(gᵀv)/dw.
    The graph of all examples stays in memory as long as the object: take few examples, or a small net. Birth costs n
    gradient evaluations and a product 2 n, which is the time it takes (1.3 to 3 measured on small nets).

    Args:
        surface: The loss and the weights; entries are ordered as in ``surface.weights``, flattened.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".

    Differs from: ``curvlinops.HessianLinearOperator``, with which it agrees, in keeping the graph, which takes a
        third to a sixth of its time, and in taking any loss function.
    """

    def __init__(self, surface: LossSurface) -> None:
        self.surface = surface
        self.size = surface.size
        self.products = 0
        self._weights = [w.clone().requires_grad_() for w in surface.weights]
        _, gradient = surface.gradient_at(self._weights, create_graph=True)
        # A gradient that does not depend on the weights contributes nothing, and autograd would refuse it.
        self._rows = [(i, g) for i, g in enumerate(gradient) if g.requires_grad]

    def times(self, vector: Tensor) -> Tensor:
        """Return H v, of the shape ``(d,)``, dtype and device of `vector`."""
        self.products += 1
        self.surface.cost.bill_gradients(GRADIENTS_PER_PRODUCT * self.surface.examples)
        if not self._rows:
            return torch.zeros_like(vector)
        parts = vector.split([w.numel() for w in self._weights])
        directions = [v.view_as(w).to(w) for v, w in zip(parts, self._weights, strict=True)]
        columns = torch.autograd.grad(
            [g for _, g in self._rows],
            self._weights,
            [directions[i] for i, _ in self._rows],
            retain_graph=True,
            materialize_grads=True,
        )
        return torch.cat([column.flatten().to(vector) for column in columns])

    def times_each(self, vectors: Tensor) -> Tensor:
        """Return H V for V ``(d, k)``, as k products."""
        return torch.stack([self.times(v) for v in vectors.unbind(1)], dim=1)

    def draw_signs(self, count: int, generator: torch.Generator) -> Tensor:
        """Return ``(d, count)`` independent random signs, float64, on the device of the weights."""
        signs = torch.randint(2, (self.size, count), generator=generator, device=generator.device)
        return (2.0 * signs - 1.0).to(self._weights[0].device, torch.float64)


def top_eigenvalues(
    hessian: Hessian,
    count: int = 1,
    *,
    generator: torch.Generator,
    tolerance: float = 0.01,
    max_products: int = 300,
) -> Eigenvalues:
    """Find the algebraically largest eigenvalues of the Hessian, by Lanczos iteration with restarts.

    A basis of only 2 k + 2 vectors is kept, because one product costs more than everything else: on trained nets of
    10,000 to 30,000 parameters 5 to 10 products give the largest eigenvalue to four digits.

    Args:
        hessian: The operator, of size d ≥ 2.
        count: k, from 1 to d - 1.
        generator: Draws the first vector.
        tolerance: Largest residual as a share of the eigenvalue, in (0, 1).
        max_products: Give up after about so many products (≥ 1).

    Returns:
        The eigenvalues, and whether they converged; what did not is nan.

    Raises:
        ValueError: For arguments out of range.

    Source: Lanczos 1950; Lehoucq et al. 1998 (ARPACK), through `scipy.sparse.linalg.eigsh`.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> hessian = Hessian(LossSurface(model, torch.nn.functional.mse_loss, [(x, torch.zeros(2, 1))]))
        >>> eigenvalues = top_eigenvalues(hessian, generator=torch.Generator().manual_seed(0))
        >>> round(eigenvalues.values[0], 5)
        4.0
    """
    d = hessian.size
    if whole("count", count, least=1) >= d:
        raise ValueError(f"count = {count} eigenvalues of {d} parameters: Lanczos iteration finds from 1 to d - 1.")
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"tolerance = {tolerance!r}: give a share of the eigenvalue, between 0 and 1, such as 0.01.")
    basis = min(d, 2 * count + 2)
    restarts = max(1, (whole("max_products", max_products, least=1) - basis) // (basis - count))
    first = hessian.draw_signs(1, generator)[:, 0]
    before = hessian.products
    nothing_but_zeros = True

    def times(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        nonlocal nothing_but_zeros
        product: npt.NDArray[np.float64] = hessian.times(torch.from_numpy(vector.ravel()).to(first)).cpu().numpy()
        nothing_but_zeros &= not product.any()
        return product

    try:
        values, vectors = eigsh(
            LinearOperator((d, d), matvec=times, dtype=np.float64),
            k=count,
            which="LA",
            v0=first.cpu().numpy(),
            ncv=basis,
            maxiter=restarts,
            tol=tolerance,
            rng=np.random.default_rng(int(torch.randint(2**31, (), generator=generator, device=generator.device))),
        )
    except ArpackNoConvergence as unfinished:
        values, vectors = unfinished.eigenvalues, unfinished.eigenvectors
    except ArpackError:
        # ARPACK refuses the zero matrix, whose eigenvalues are known.
        if not nothing_but_zeros:
            raise
        values, vectors = np.zeros(count), np.eye(d, count)
    order = np.argsort(values)[::-1]
    found = [float(value) for value in values[order]]
    return Eigenvalues(
        values=(*found, *[math.nan] * (count - len(found))),
        tolerance=tolerance,
        converged=len(found) == count,
        products=hessian.products - before,
        n=hessian.surface.examples,
        vectors=torch.from_numpy(np.ascontiguousarray(vectors[:, order])).to(first),
    )


def hutchinson_trace(
    hessian: Hessian, *, probes: int = 8, generator: torch.Generator, known: Eigenvalues | None = None
) -> Trace:
    """Estimate the Hessian's trace by random signs z: the mean of zᵀ H z.

    With eigenvectors V known, their part is exact, and only the rest is estimated, with P = I - V Vᵀ:
        tr H = tr(Vᵀ H V) + E[(Pz)ᵀ H (Pz)],
    which narrows the interval a lot when few eigenvalues dominate, for no further product.

    The variance of zᵀ A z, twice the sum of the squares of A off its diagonal, is estimated without bias by twice the
    sum over i of the variance of zᵢ (A z)ᵢ between probes. The spread of the few zᵀ A z themselves is small whenever
    they are all too small, as they mostly are where one eigenvalue dominates: Student's t by it covered the trace of a
    matrix of rank one 82 %, 89 % and 91 % of the time with 5, 12 and 30 probes. With Student's t and probes - 1 degrees
    of freedom the interval here covers it 95 to 96 % of the time, and the traces of other matrices (near to diagonal,
    Wishart, the Hessian of a small net) 95 to 99 %; with 2 to 4 probes 96 to 100 %: too wide rather than too narrow.
    Not so where all curvature lies in a handful of weights, whose signs may agree by chance: 49 % with two weights and
    2 probes. Misses are one-sided: a trace that one eigenvalue dominates lies above the interval. Measured over 2,000
    repetitions of each; `tests/wasam_core/test_trace_coverage.py` repeats it. Normal z, for which twice the mean of
    ||A z||² is the variance, covered as often and gave wider intervals, for they add the variance of the diagonal.

    Args:
        hessian: The operator.
        probes: Number of z (≥ 2), one product each.
        generator: Draws them.
        known: What `top_eigenvalues` found for the same operator; None for the plain estimate.

    Raises:
        ValueError: For arguments out of range.

    Source: Hutchinson 1990, "A stochastic estimator of the trace of the influence matrix", which has the variance, too;
        the deflation as in Meyer et al. 2021 (arXiv 2010.09649).

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> hessian = Hessian(LossSurface(model, torch.nn.functional.mse_loss, [(x, torch.zeros(2, 1))]))
        >>> hutchinson_trace(hessian, probes=2, generator=torch.Generator().manual_seed(0)).value  # 1 + 4
        5.0
    """
    whole("probes", probes, least=2)
    exact, signs = 0.0, hessian.draw_signs(probes, generator)
    rest = signs if known is None else signs - known.vectors @ (known.vectors.T @ signs)
    products = hessian.times_each(rest)
    value = math.fsum((rest * products).sum(0).tolist()) / probes
    if known is not None:
        exact = math.fsum(found for found in known.values if not math.isnan(found))
        products = products - known.vectors @ (known.vectors.T @ products)
    error = math.sqrt(2.0 * (signs * products).var(1).sum().item() / probes)
    value += exact
    half_width = float(stdtrit(probes - 1, (1 + CONFIDENCE) / 2)) * error
    return Trace(value, error, value - half_width, value + half_width, probes, hessian.surface.examples)
