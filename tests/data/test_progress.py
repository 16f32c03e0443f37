import threading
import time

import pytest

from keras_psp.console import Lines
from keras_psp.data.progress import ahead, with_bar


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
