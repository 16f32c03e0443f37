import keras
import numpy as np
import pytest

from keras_psp.optimizers import AdamW


def network():
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="backbone"),
            keras.layers.Dense(2, name="classifier"),
        ]
    )


def test_equals_torch_with_four_groups():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(0)
    variables = network().trainable_variables
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


def test_training_resumes_after_saving(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(8, 3)), np.zeros((8, 2))
    model = network()
    model.compile(AdamW(0.01, head_multiplier=3.0, beta_2=0.99), "mse")
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for m in (model, again):
        m.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )


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
