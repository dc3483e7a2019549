"""BatchNorm: exact statistics, and passes that leave no trace."""

import pytest
import torch
from torch import nn

from wasam_core import recalibrate_batchnorm


@pytest.mark.parametrize("sizes", [(8,), (8, 8), (96, 4), (1, 5), (5, 1), (7,) * 150])
def test_the_first_layer_gets_the_moments_of_the_whole_pass(sizes):
    x = torch.randn(sum(sizes), 3, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1]) + 7
    x = x.sort(0).values.float()  # ordered, so that batches differ a lot
    model = nn.BatchNorm1d(3)
    assert recalibrate_batchnorm(model, x.split(sizes)) == len(x)
    torch.testing.assert_close(model.running_mean, x.double().mean(0).float())
    torch.testing.assert_close(model.running_var, x.double().var(0, correction=0).float())
