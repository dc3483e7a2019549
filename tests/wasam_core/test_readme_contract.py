"""The loops of the public README, as they stand there."""

import torch
from torch.nn import functional

from wasam_core import WASAM, MultipleSWAModels


def accuracy(model, batches):
    model.eval()
    with torch.no_grad():
        hits = sum((model(x).argmax(1) == y).sum().item() for x, y in batches)
    model.train()
    return hits / sum(len(y) for _, y in batches)


def test_simple_option_with_one_average(toys):
    model, loader = toys.net(0.0), toys.batches(4)
    base_optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = WASAM(model.parameters(), base_optimizer, rho=0.05, lr=0.1, momentum=0.9)
    max_epochs, swa_start_coeff = 12, 0.75
    swa_start_epoch = int(max_epochs * swa_start_coeff)
    scores = []
    for epoch in range(1, max_epochs + 1):
        for inputs, output in loader:

            def closure(inputs=inputs, output=output):
                loss = functional.cross_entropy(model(inputs), output)
                loss.backward()
                return loss

            loss = functional.cross_entropy(model(inputs), output)
            loss.backward()
            optimizer.step(closure)
            assert all(p.grad is None for p in model.parameters())
        if epoch >= swa_start_epoch:
            optimizer.update_swa()
        trained = toys.snapshot(model)
        optimizer.swap_swa_sgd()
        optimizer.bn_update(loader, model)
        scores.append(accuracy(model, loader))
        moved = not torch.equal(model[0].weight, trained["0.weight"][1])
        assert moved is (epoch > swa_start_epoch)
        optimizer.swap_swa_sgd()
        toys.assert_untouched(model, trained)
    assert scores[-1] > max(0.6, scores[0])


def test_advanced_option_with_several_averages(toys):
    device = torch.device("cpu")
    model, loader = toys.net(0.0), toys.batches(4)
    base_optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = WASAM(model.parameters(), base_optimizer, rho=0.05)
    max_epochs, swa_starts = 10, [0.5, 0.6, 0.75, 0.9]
    swa_models = MultipleSWAModels(model, device, max_epochs, swa_starts)
    evaluated = []
    for epoch in range(1, max_epochs + 1):
        for inputs, output in loader:
            loss = functional.cross_entropy(model(inputs), output)
            loss.backward()
            optimizer.first_step(zero_grad=True)
            functional.cross_entropy(model(inputs), output).backward()
            optimizer.second_step(zero_grad=True)
        swa_models.update_parameters(model, epoch)
        for model_dict in swa_models.models:
            swa_model, swa_start = model_dict["model"], model_dict["start"]
            if epoch >= swa_start:
                optimizer.bn_update(loader, swa_model)
                evaluated.append((epoch, swa_start, accuracy(swa_model, loader)))
    assert [start for epoch, start, _ in evaluated if epoch == 10] == [5, 6, 7, 9]
    assert len(evaluated) == 6 + 5 + 4 + 2
    assert min(score for epoch, _, score in evaluated if epoch == 10) > 0.5
    assert model[1].num_batches_tracked == 40


def test_a_base_optimizer_may_be_any_callable(toys):
    def make(groups, *, rate):
        return torch.optim.Adam(groups, lr=rate)

    model = toys.net()
    optimizer = WASAM(model.parameters(), make, rate=0.123)
    assert optimizer.param_groups[0]["lr"] == 0.123
    assert isinstance(optimizer.base_optimizer, torch.optim.Adam)
    assert "rho: 0.05" in repr(optimizer)
