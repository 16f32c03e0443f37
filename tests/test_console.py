import sys
import warnings

import pytest
import rich.console
from rich.progress import track

from keras_psp.console import bar_console


@pytest.mark.parametrize("installed", [True, False])
def test_a_notebook_without_ipywidgets_gets_no_warning(installed, monkeypatch, capsys):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setattr("keras_psp.console.find_spec", lambda name: installed or None)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # import fails, as without it
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        console = bar_console()
        assert list(track([1, 2], "Counting", console=console)) == [1, 2]
    # What it would be told otherwise shows that this test can fail.
    assert any("ipywidgets" in str(one.message) for one in told) == installed
    assert ("Counting" in capsys.readouterr().err) == (not installed)
