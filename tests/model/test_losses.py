"""Every loss equals torch's, in value and gradient, with extreme logits too."""

import pytest
import torch
from torch import nn

from model.step.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])
NUMBERS = torch.tensor([[0.0, 1.0, 0.0, 1.0]] * 3 + [[1.0, 0.0, 0.0, 0.0]] * 3)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])
TABLE = [
    (SoftmaxCrossEntropy(), nn.CrossEntropyLoss(), LABELS, None),
    (SoftmaxCrossEntropy(0.1), nn.CrossEntropyLoss(label_smoothing=0.1), LABELS, None),
    (SoftmaxCrossEntropy(), nn.CrossEntropyLoss(WEIGHTS), LABELS, WEIGHTS),
    (SoftmaxCrossEntropy(0.2), nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.2), LABELS, WEIGHTS),
    (BinaryCrossEntropy(), nn.BCEWithLogitsLoss(), NUMBERS, None),
    (MeanSquaredError(), nn.MSELoss(), NUMBERS, None),
]


@pytest.mark.parametrize("scale", [1.0, 30.0, 200.0])
@pytest.mark.parametrize(("ours", "theirs", "targets", "weights"), TABLE, ids=str)
def test_equals_torch(ours, theirs, targets, weights, scale):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * scale
    logits.requires_grad_(True)
    total, weight = ours(logits, targets, weights)
    found, wanted = total / weight, theirs(logits, targets)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    (a,) = torch.autograd.grad(found, logits)
    (b,) = torch.autograd.grad(wanted, logits)
    assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)
