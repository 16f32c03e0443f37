import pytest
import tensorflow as tf

pytest.importorskip("apache_beam", reason="Apache Beam is not installed; extra 'beam'")

from keras_psp.beam import records, sources


def test_a_corrupt_file_yields_the_records_before_the_error(tmp_path):
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as file:
        for value in (b"one", b"two", b"three"):
            file.write(value)
    assert list(records.read_records(str(path))) == [b"one", b"two", b"three"]
    assert records.to_bytes([b"one", b"two", b"three"]) == path.read_bytes()
    damaged = bytearray(path.read_bytes())
    damaged[16 + 3 + 12] ^= 1  # the first byte of "two"
    path.write_bytes(damaged)
    values = records.read_records(str(path))
    assert next(values) == b"one"
    with pytest.raises(ValueError, match="record 2 is truncated or corrupt; write the file again"):
        next(values)
    (failed,) = [item for item in sources.record_items(str(path), False) if "#1" in item.name]
    assert "record 2 is truncated" in failed.reason
