import os

from keras_psp.data.memory import free_memory


def test_free_memory_is_no_more_than_the_machine_has():
    assert 2**24 < free_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
