from keras_psp.training.log import Table


def test_rows_after_the_checkpoint_are_removed(tmp_path):
    table = Table(tmp_path / "log.csv", ("step", "loss"))
    table.cut(0)
    for step in range(1, 5):
        table.add({"step": step, "loss": 1 / step})
    with open(table.path, "a") as file:
        file.write("5")  # an incomplete row of a killed process
    again = Table(table.path, ("step", "loss"))
    again.cut(3)
    assert again.column("step") == [1, 2, 3]
    assert again.column("loss") == [1 / step for step in (1, 2, 3)]
    again.add({"step": 4})
    assert table.path.read_text().splitlines()[-2:] == [f"3,{1 / 3!r}", "4,"]
