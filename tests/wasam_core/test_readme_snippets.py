"""The snippets of the front page and of the library's README run as they stand there."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).parents[2]
SNIPPETS = [
    snippet
    for page in (ROOT / "README.md", ROOT / "wasam_core" / "README.md")
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


class StandInModule(nn.Module):
    """What the snippet needs of a LightningModule, where Lightning is not installed."""

    def optimizers(self):
        if not hasattr(self, "_built"):
            self._built = self.configure_optimizers()
        return self._built

    def manual_backward(self, loss):
        loss.backward()


@pytest.fixture
def surroundings(toys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "lightning", types.SimpleNamespace(LightningModule=StandInModule))
    model, loader, scores = toys.net(), toys.batches(3), []

    def evaluate(net):
        net.eval()
        scores.append(sum(functional.cross_entropy(net(x), y).item() for x, y in loader))
        net.train()

    return {
        "model": model,
        "loader": loader,
        "loss_fn": functional.cross_entropy,
        "epochs": 4,
        "evaluate": evaluate,
        "scores": scores,
    }


@pytest.fixture
def one_process_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet(number, surroundings, request):
    code = SNIPPETS[number]
    if "DistributedDataParallel" in code:
        request.getfixturevalue("one_process_group")
    model = surroundings["model"]
    before = model[4].weight.detach().clone()
    exec(compile(code, f"README snippet {number}", "exec"), surroundings)
    if "Classifier" in surroundings:
        classifier = surroundings["Classifier"]()
        for index, batch in enumerate(surroundings["loader"]):
            classifier.training_step(batch, index)
    if "start_step" in code:
        assert surroundings["optimizer"].start_step == 9
        return
    assert not torch.equal(model[4].weight, before)
    assert all(p.isfinite().all() for p in model.parameters())
    assert model[1].num_batches_tracked > 0
    assert bool(surroundings["scores"]) is ("evaluate(" in code)
