"""sin x on [-π, π], fitted by a polynomial whose coefficients are learned by gradient descent, or by an MLP."""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from jobs import tabular
from jobs.catalogue.tables import SineParams
from jobs.layers import Standardise, Unstandardise
from jobs.problem import Model, Problem, Signature
from jobs.tabular import Table


@cache
def table() -> Table:
    """1,000 equally spaced points."""
    x = np.linspace(-math.pi, math.pi, 1000)
    return Table(rows=x[:, None], labels=np.sin(x), features=("x",))


class Polynomial(nn.Module):
    """A polynomial of standardised x, (B, 1) -> (B, 1), as a sum of Legendre polynomials.

    These are orthonormal under uniform x, so every coefficient is learned at the same pace; powers of x are nearly
    parallel, and descent creeps. A standardised uniform x lies in ±√3, and Legendre's in ±1.
    """

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree = degree
        self.coefficients = nn.Linear(degree, 1)  # its bias is the coefficient of the constant

    def forward(self, x: Tensor) -> Tensor:
        x = x / math.sqrt(3)
        terms = [torch.ones_like(x), x]
        for n in range(1, self.degree):  # Bonnet's recursion
            terms.append(((2 * n + 1) * x * terms[n] - n * terms[n - 1]) / (n + 1))
        norms = [math.sqrt(2 * n + 1) for n in range(self.degree + 1)]
        basis = torch.cat([norm * term for norm, term in zip(norms[1:], terms[1:], strict=True)], dim=1)  # (B, degree)
        values: Tensor = self.coefficients(basis)
        return values


def model(params: SineParams, signature: Signature) -> Model:
    if params.model == "mlp":
        return tabular.regressor(params, signature)
    return Model(
        signature,
        before=Standardise(signature.input_shape),
        net=Polynomial(params.degree),
        after=Unstandardise((1,)),
    )


def build(params: SineParams, seed: int) -> Problem:
    return tabular.regression(table(), model(params, table().signature), params, seed)
