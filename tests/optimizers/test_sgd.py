import keras
import numpy as np
import pytest
from support.networks import two_layers

from keras_psp import SGD, PolyLearningRate


def by_hand(weights, gradients, *, rates, momentum=0.9, decay=1e-4, factors):
    """torch.optim.SGD's formula in float64."""
    weights = [w.astype("float64") for w in weights]
    buffers = [0 * w for w in weights]
    for rate in rates:
        for i, gradient in enumerate(gradients):
            buffers[i] = momentum * buffers[i] + gradient + decay * weights[i]
            weights[i] = weights[i] - rate * factors[i] * buffers[i]
    return weights


def test_decay_precedes_momentum_and_head_has_ten_times_the_rate():
    model = two_layers()
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=v.shape).astype("float32") for v in model.trainable_variables]
    start = [v.numpy() for v in model.trainable_variables]
    optimizer = SGD(PolyLearningRate(0.1, 5), weight_decay=0.01)
    for _ in range(5):
        optimizer.apply(gradients, model.trainable_variables)
    rates = [0.1 * (1 - step / 5) ** 0.9 for step in range(5)]
    expected = by_hand(start, gradients, rates=rates, decay=0.01, factors=(1, 1, 10, 10))
    for variable, weights in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), weights, rtol=1e-4, atol=1e-5)


def test_float64_variables_get_exact_steps():
    variable = keras.Variable([1.0, -2.0], dtype="float64", name="backbone")
    rng = np.random.default_rng(0)
    start, gradients = [variable.numpy()], [rng.normal(size=2)]
    optimizer = SGD(0.125, weight_decay=0.01, head_multiplier=1)
    for _ in range(5):
        optimizer.apply(gradients, [variable])
    (expected,) = by_hand(start, gradients, rates=[0.125] * 5, decay=0.01, factors=(1,))
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-14)


def test_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = two_layers()
    rng = np.random.default_rng(0)
    variables = model.trainable_variables
    theirs = [torch.nn.Parameter(torch.from_numpy(v.numpy().copy())) for v in variables]
    groups = [{"params": theirs[:2], "lr": 0.05}, {"params": theirs[2:], "lr": 0.5}]
    their_sgd = torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=1e-2)
    optimizer = SGD(0.05, weight_decay=1e-2)
    for _ in range(4):
        gradients = [rng.normal(size=v.shape).astype("float32") for v in variables]
        optimizer.apply(gradients, variables)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient)
        their_sgd.step()
    for variable, parameter in zip(variables, theirs, strict=True):
        np.testing.assert_allclose(variable.numpy(), parameter.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by_method", [False, True])
def test_excluded_names_do_not_decay(by_method):
    model = two_layers()
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    names = () if by_method else ("bias",)
    optimizer = SGD(0.1, weight_decay=0.5, exclude_from_weight_decay=names)
    if by_method:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    zeros = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    kernel, bias = model.trainable_variables[:2]
    np.testing.assert_allclose(kernel.numpy(), 0.95)
    np.testing.assert_allclose(bias.numpy(), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.0}, "momentum is 1.0; it must be a finite number >= 0 and < 1"),
        ({"learning_rate": -0.1}, "learning_rate is -0.1; it must be a finite number >= 0"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        (
            {"exclude_from_weight_decay": "bias"},
            "exclude_from_weight_decay is 'bias'; it must be a",
        ),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        SGD(**arguments)
