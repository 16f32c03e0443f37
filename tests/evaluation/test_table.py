import io

import numpy as np
import pytest
import rich.console

from keras_psp import MeanIoU, evaluation


def seen():
    metric = MeanIoU(3)
    metric.update_state(np.array([[[0, 0, 1, 255]]]), np.array([[[0, 1, 1, 2]]]))
    return metric


def test_table_shows_figures_and_absent_classes():
    text = io.StringIO()
    console = rich.console.Console(file=text, width=80)
    evaluation.report(seen(), ("sky", "sea", "boat"), console=console)
    rows = {line.split()[1]: line for line in text.getvalue().splitlines() if "│" in line}
    assert "50.0 %" in rows["sky"]
    assert "66.7 %" in rows["sky"]  # 2 of the 3 labelled pixels
    assert "100.0 %" in rows["sea"]  # recall
    assert rows["boat"].count("-") == 3  # all but the share
    assert "mean IoU 50.00 %   pixel accuracy 66.67 %   class accuracy 75.00 %" in text.getvalue()


def test_names_are_no_markup():
    text = io.StringIO()
    console = rich.console.Console(file=text, width=80)
    evaluation.report(seen(), ("road [paved]", "[/x]", "boat"), console=console)
    assert "road [paved]" in text.getvalue() and "[/x]" in text.getvalue()


def test_wrong_number_of_names():
    with pytest.raises(ValueError, match="2 class_names for 3 classes; give one each"):
        evaluation.class_table(seen(), ("sky", "sea"))
