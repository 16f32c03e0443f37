import sys
import threading
import time
import warnings

import pytest
import rich.console

from keras_psp.progress import Bar, ahead, with_bar


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


def test_a_bar_yields_every_item(capsys):
    assert list(with_bar(iter("abc"), "Reading", 3)) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == "" and err == "Reading: 3 of 3\n"


def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(Bar, "SECONDS_PER_LINE", -1.0)
    assert list(with_bar(iter("ab"), "Reading", 2)) == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == ["Reading: 1 of 2", "Reading: 2 of 2"]


def test_lines_have_the_note_the_time_left_and_the_last_state(monkeypatch, capsys):
    clock = iter(range(0, 1000, 5))
    with Bar("Reading", 120, completed=10) as bar:
        bar._progress.get_time = lambda: next(clock)
        for completed in (12, 32):
            bar.update(completed, f"{bar.rate:.1f} images/s")
        assert bar.rate == 4.0
        bar.print("a message")
        bar.print(bar._line())
    message, line = capsys.readouterr().err.splitlines()
    assert (message, line) == ("a message", "Reading: 32 of 120, 0.0 images/s, 0:00:22 left")
    with Bar("Reading") as bar:
        bar.update(20, "4.0 images/s")
    assert capsys.readouterr().err == "Reading: 20, 4.0 images/s\n"


def test_a_bar_that_is_not_shown_prints_nothing(capsys):
    with Bar("Reading", 2, shown=False) as bar:
        bar.update(1)
        bar.print("a message")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(rich.console.Console, "is_terminal", True)
    with Bar("Reading", 2) as bar:
        bar.update(1, "a note [red]", title="Reading on")
    err = capsys.readouterr().err
    assert "Reading on" in err and "1/2" in err and "a note [red]" in err


@pytest.mark.parametrize("installed", [True, False])
def test_a_notebook_without_ipywidgets_gets_no_warning(installed, monkeypatch, capsys):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setattr("keras_psp.progress.find_spec", lambda name: installed or None)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # import fails, as without it
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert list(with_bar([1, 2], "Counting", 2)) == [1, 2]
    # The warning with it "installed" proves that this test can fail.
    assert any("ipywidgets" in str(warning.message) for warning in caught) == installed
    assert ("Counting" in capsys.readouterr().err) == (not installed)


def test_file_names_are_printed_verbatim(capsys):
    assert list(with_bar([1], "film [final] :smile:.mp4", 1)) == [1]
    assert "film [final] :smile:.mp4" in capsys.readouterr().err
