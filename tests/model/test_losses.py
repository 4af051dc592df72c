"""Every loss equals torch's, in value and gradient, with extreme logits too."""

from dataclasses import fields
from typing import get_args

import pytest
import torch

from model.step.losses import LOSSES
from tod.cli.export_options import LossKind
from tod.format.manifest import TASKS, LossName

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])
NUMBERS = torch.tensor([[0.0, 1.0, 0.0, 1.0]] * 3 + [[1.0, 0.0, 0.0, 0.0]] * 3)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])
# Each loss with its defaults and with each of its settings changed, with and without class weights.
TABLE = [
    (loss, weights)
    for kind in LOSSES.values()
    for loss in (kind(), *(kind(**{field.name: 0.1}) for field in fields(kind)))
    for weights in ((None, WEIGHTS) if kind.takes_class_weights else (None,))
]


@pytest.mark.parametrize("scale", [1.0, 30.0, 200.0])
@pytest.mark.parametrize(("loss", "weights"), TABLE, ids=str)
def test_equals_torch(loss, weights, scale):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * scale
    logits.requires_grad_(True)
    targets = LABELS if TASKS[loss.name] == "single-label" else NUMBERS
    twin = loss.torch_twin(weights)
    assert type(twin).__module__ == "torch.nn.modules.loss"
    total, weight = loss(logits, targets, weights)
    found, wanted = total / weight, twin(logits, targets)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    (a,) = torch.autograd.grad(found, logits)
    (b,) = torch.autograd.grad(wanted, logits)
    assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_command_and_the_format_know_each():
    assert [option.value for option in LossKind] == list(LOSSES)
    assert [kind.name for kind in LOSSES.values()] == list(get_args(LossName)) == list(TASKS)
