"""A task for `python -m study.run`: a variational autoencoder, whose target is its input.

Put your data and your model in the place of the example's. The study calls ``build`` once a run.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.streams import stream
from study.tasks import Guess, Metric, Task

PIXELS, LATENT = 64, 4


def images(count: int, name: str) -> tuple[Tensor, Tensor]:
    """Return images ``(count, PIXELS)`` of soft bars, of 0 and 1: as inputs, and as targets."""
    rng = stream(0, name)
    places = torch.from_numpy(rng.uniform(0, 8, size=(count, 2))).float()
    rows, columns = (torch.exp(-((torch.arange(8.0) - places[:, i, None]) ** 2)) for i in (0, 1))
    x = ((rows[:, :, None] + columns[:, None]) > 0.5).float().flatten(1)
    return x, x


class Model(nn.Module):
    """Encoder, draw and decoder (Kingma & Welling 2014, arXiv 1312.6114)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, hidden), nn.ReLU(), nn.Linear(hidden, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, hidden), nn.ReLU(), nn.Linear(hidden, PIXELS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pixels as logits, and mean and log variance of the code; in evaluations nothing is drawn."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return self.decoder(code), mean, log_variance


def negative_elbo(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
    """Return the mean over examples, in nats."""
    logits, mean, log_variance = outputs
    error = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
    return (error + divergence).mean()


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run.

    Args:
        seed: Of the run. torch, NumPy and random are seeded with it while this function runs, so that initial weights
            belong to it; `stream` gives a generator of its own to each purpose.
        factors: The cell's factors, with your own under the names that the spec gives them.
    """
    x, _ = images(1000, "my training images")
    train = x[torch.from_numpy(stream(seed, "split").permutation(1000)[: factors["train_size"]])]
    return Task(
        Model(factors["hidden"]),  # a factor of your own: the spec says `factors.hidden = 32`
        (train, train),
        images(300, "my validation images"),
        lambda: images(500, "my test images"),  # a function: it is called after tuning alone
        negative_elbo,
        Metric("negative ELBO", negative_elbo, higher_is_better=False, unit="nats"),
        Guess(loss=44.4, score=-44.4),  # 64 pixels at ln 2; a score is higher if it is better: the negative of a loss
    )
