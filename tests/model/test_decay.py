"""Weight decay works on weights; on biases and norms only where that is asked for."""

import pytest
import torch

from model.networks.network import with_head
from model.step.optimizers import SGD
from model.train_wrap import TrainWrap
from tests.support.tiny_models import tiny_backbone

LR, DECAY = 0.1, 0.5


@pytest.mark.parametrize("decay_all", [False, True])
def test_without_a_gradient_only_decay_moves_a_parameter(decay_all):
    """The ReLU is off and both classes are as likely as they are frequent: every gradient is 0."""
    net = with_head(tiny_backbone(), "linear", std=0.1, seed=0).build(2)
    wrap = TrainWrap(
        net, optimizer=SGD(LR, momentum=0, weight_decay=DECAY), input_shape=(3, 16, 16),
        weights=[name for name, _ in net.named_parameters()], backbone_lr=1, decay_all=decay_all,
    )  # fmt: skip
    before = {name: torch.full_like(value, 0.3) for name, value in wrap.parameters().items()}
    before["backbone.1.bias"] -= 100  # of the norm before the ReLU
    inputs = {
        "features": torch.randn(4, 3, 16, 16),
        "labels": torch.tensor([0, 1, 0, 1]),
        "lr": torch.tensor(LR),
    }
    _, _, after = wrap.step(inputs, before | wrap.statistics() | wrap.slots())
    assert {name for name in before if before[name].dim() == 1} == {
        "backbone.0.bias", "backbone.1.weight", "backbone.1.bias", "head.bias",
    }  # fmt: skip
    for name, value in before.items():
        shrinks = decay_all or value.dim() > 1
        wanted = value * (1 - LR * DECAY) if shrinks else value
        torch.testing.assert_close(after[name], wanted, msg=name)
