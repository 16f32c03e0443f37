import sys
import threading
import time
import warnings

import pytest
import rich.console
from rich.progress import track

from keras_psp.progress import Lines, ahead, bar_console, with_bar


def test_ahead_keeps_the_order_and_takes_few_items_before_they_are_due():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    def late(number):
        time.sleep(0.002 * (number % 3))
        return 2 * number

    results = ahead(late, items(), threads=3)
    for number in range(50):
        assert next(results) == 2 * number
        assert len(taken) <= number + 6
    assert next(results, None) is None


def test_ahead_works_in_other_threads_and_ends_them_when_left():
    names = set()
    before = threading.active_count()
    results = ahead(lambda _: names.add(threading.current_thread().name), range(99), threads=2)
    next(results)
    results.close()
    assert threading.main_thread().name not in names
    assert threading.active_count() == before


def test_errors_come_where_their_result_would():
    results = ahead(lambda number: 1 // number, (1, 0, 1), threads=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_bar_passes_everything_on(capsys):
    assert list(with_bar(iter("abc"), "Reading", 3)) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == "" and "Reading" in err


def test_a_log_is_told_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(Lines, "EVERY", -1.0)
    assert list(with_bar(iter("ab"), "Reading", 2)) == ["a", "b"]
    assert capsys.readouterr().err.splitlines()[:2] == ["Reading: 1 of 2", "Reading: 2 of 2"]


@pytest.mark.parametrize("installed", [True, False])
def test_a_notebook_without_ipywidgets_gets_no_warning(installed, monkeypatch, capsys):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setattr("keras_psp.progress.find_spec", lambda name: installed or None)
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
