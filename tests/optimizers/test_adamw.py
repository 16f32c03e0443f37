import keras
import numpy as np
import pytest
from support.networks import two_layers

from keras_psp.optimizers import AdamW


def test_equals_torch_with_four_groups():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(0)
    variables = two_layers().trainable_variables
    theirs = [
        torch.nn.Parameter(torch.from_numpy(keras.ops.convert_to_numpy(v).copy()))
        for v in variables
    ]
    # Kernel and bias of the backbone, then of the head.
    groups = [
        {"params": [parameter], "lr": rate, "weight_decay": decay}
        for parameter, rate, decay in zip(
            theirs, (0.05, 0.05, 0.5, 0.5), (0.1, 0, 0.1, 0), strict=True
        )
    ]
    their_adamw = torch.optim.AdamW(groups, eps=1e-8)
    optimizer = AdamW(0.05, weight_decay=0.1)
    for _ in range(4):
        gradients = [rng.normal(size=v.shape).astype("float32") for v in variables]
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient)
        their_adamw.step()
    for variable, parameter in zip(variables, theirs, strict=True):
        ours = keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(ours, parameter.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta_1": 1.0}, "beta_1 is 1.0; it must be a finite number >= 0 and < 1"),
        ({"learning_rate": -0.1}, "learning_rate is -0.1; it must be a finite number >= 0"),
        ({"epsilon": 0}, "epsilon is 0; it must be a finite number > 0"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdamW(**arguments)
