import sys
import warnings

import pytest
import rich.console
from rich.progress import track

from keras_psp.console import Lines, bar_console
from keras_psp.data.progress import with_bar


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


def test_names_of_files_are_shown_as_they_are(capsys):
    assert list(with_bar([1], "film [final].mp4", 1)) == [1]
    assert "film [final].mp4" in capsys.readouterr().err
    Lines(bar_console()).say("film [final] :smile:.mp4", at_once=True)
    assert "film [final] :smile:.mp4" in capsys.readouterr().err
