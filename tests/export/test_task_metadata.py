from flatbuffers import encode, number_types, table
from support.networks import tiny_pspnet

from keras_psp.export.graph import Signature
from keras_psp.export.metadata import metadata
from keras_psp.export.task_metadata import task_metadata


class Reader(table.Table):
    """A table of a buffer, whose fields have the positions of MediaPipe's metadata_schema.fbs."""

    def _at(self, field):
        offset = self.Offset(4 + 2 * field)
        assert offset, f"field {field} is absent"
        return offset + self.Pos

    def byte(self, field):
        return self.Get(number_types.Uint8Flags, self._at(field))

    def text(self, field):
        return self.String(self._at(field)).decode()

    def table(self, field):
        return Reader(self.Bytes, self.Indirect(self._at(field)))

    def tables(self, field):
        field = self._at(field) - self.Pos
        start, count = self.Vector(field), self.VectorLen(field)
        return [Reader(self.Bytes, self.Indirect(start + 4 * index)) for index in range(count)]

    def numbers(self, field, flags=number_types.Float32Flags):
        return self.GetVectorAsNumpy(flags, self._at(field) - self.Pos).tolist()


def root(content, identifier):
    assert content[4:8] == identifier
    return Reader(content, encode.Get(number_types.UOffsetTFlags.packer_type, content, 0))


def written(**options):
    model = tiny_pspnet()
    about = metadata(model, Signature((49, 57), 1, **options), license="MIT")
    return root(task_metadata(about), b"M001")


def test_pixels_go_in_as_they_are_and_labels_are_named():
    model = written(output="probabilities")
    assert model.text(5) == "MIT" and model.text(7) == "1.5.0"
    (subgraph,) = model.tables(3)
    (image,), (result,) = subgraph.tables(2), subgraph.tables(3)
    assert (image.text(0), result.text(0)) == ("image", "probabilities")
    content, unit = image.table(3), image.tables(4)[0]
    assert content.byte(0) == 2 and content.table(1).byte(0) == 1  # ImageProperties, RGB
    assert unit.byte(0) == 1  # NormalizationOptions
    assert (unit.table(1).numbers(0), unit.table(1).numbers(1)) == ([0], [1])
    assert (image.table(5).numbers(0), image.table(5).numbers(1)) == ([255], [0])
    (labels,) = result.tables(6)
    assert labels.text(0) == "labels.txt" and labels.byte(2) == 2  # TENSOR_AXIS_LABELS


def test_labels_of_a_class_map_are_those_of_its_values():
    (result,) = written(output="classes").tables(3)[0].tables(3)
    assert result.tables(6)[0].byte(2) == 3  # TENSOR_VALUE_LABELS


def test_only_logits_still_need_softmax():
    for output, activation in (("logits", 2), ("probabilities", None), ("classes", None)):
        (custom,) = written(output=output).tables(3)[0].tables(9)
        assert custom.text(0) == "SEGMENTER_METADATA"
        options = root(bytes(custom.numbers(1, number_types.Uint8Flags)), b"V001")
        # 0, for none, is the default, which a buffer leaves out.
        assert (options.byte(0) if activation else options.Offset(4) or None) == activation
