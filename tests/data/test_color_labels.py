import numpy as np
import pytest
from PIL import Image
from support import label_tools
from support.label_tools import colored, save_image

from keras_psp.data import ImageFolder
from keras_psp.data.color_labels import UnnamedColors


@pytest.fixture(scope="module")
def examples():
    return label_tools.scenes()


@pytest.fixture
def root(tmp_path, examples):
    for scene in examples:
        save_image(tmp_path / "images" / f"{scene.name}.png", scene.image)
        save_image(tmp_path / "labels" / f"{scene.name}.png", colored(scene.mask()))
    (tmp_path / "palette.txt").write_text(label_tools.palette_text())
    return tmp_path


def test_colors_of_palette_txt_are_classes(root, examples):
    source = ImageFolder(root)
    label_tools.assert_masks_equal(source, [scene.mask() for scene in examples], examples)
    assert source.class_names == ("background", *label_tools.CLASSES)
    assert source.check(progress=False) == 12


def test_the_palette_may_be_an_argument(root, examples):
    (root / "palette.txt").unlink()
    palette = [(0, 0, 0), *label_tools.COLORS.values()]
    source = ImageFolder(root, palette=palette)
    label_tools.assert_masks_equal(source, [scene.mask() for scene in examples], examples)
    assert source.class_names == ("class 0", "class 1", "class 2", "class 3")


def test_a_class_may_have_several_colors_and_255_is_ignored(root, examples):
    lines = ["0 0 0 0 other", "1 200 30 30 pet", "1 30 200 30", "255 30 30 200"]
    (root / "palette.txt").write_text("\n".join(lines))
    source = ImageFolder(root)
    assert source.class_names == ("other", "pet")
    mask = label_tools.masks_of(source, examples[:1])[0]
    np.testing.assert_array_equal(mask, np.array([0, 1, 1, 255])[examples[0].mask()])
    np.testing.assert_array_equal(source.palette, [(0, 0, 0), (200, 30, 30)])


def test_cvats_labelmap_is_read(root, examples):
    (root / "palette.txt").unlink()
    lines = [f"{name}:{','.join(map(str, color))}::" for name, color in label_tools.COLORS.items()]
    text = "\n".join(["# label:color_rgb:parts:actions", "background:0,0,0::", *lines])
    (root / "labelmap.txt").write_text(text)
    source = ImageFolder(root)
    label_tools.assert_masks_equal(source, [scene.mask() for scene in examples], examples)
    (root / "labelmap.txt").write_text("background 0,0,0\n")
    with pytest.raises(
        ValueError, match=r"labelmap.txt, line 1: .* isn't `name:R,G,B::` with color"
    ):
        ImageFolder(root)


def test_opaque_rgba_and_palette_files_are_read_by_color(root, examples):
    path = root / "labels" / "photo01.png"
    Image.open(path).convert("RGBA").save(path)
    path = root / "labels" / "photo02.png"
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    expected = [scene.mask() for scene in examples]
    label_tools.assert_masks_equal(ImageFolder(root), expected, examples)


def test_unknown_colors_are_named_with_their_pixels(root):
    path = root / "labels" / "photo03.png"
    values = np.array(Image.open(path))
    values[:2, :3] = (1, 2, 3)
    Image.fromarray(values).save(path)
    message = (
        r"photo03.png: color 1 2 3 \(6 pixels\) isn't a color of .*palette.txt; add a line for "
        "each, or draw and resize the labels without smoothing"
    )
    with pytest.raises(ValueError, match=message):
        ImageFolder(root).check(progress=False)
    values[5, 5] = (1, 2, 4)
    Image.fromarray(values).save(path)
    message = r"color 1 2 3 \(6 pixels\) and 1 more aren't colors of"
    with pytest.raises(ValueError, match=message):
        ImageFolder(root).check(progress=False)


def test_smoothed_labels_are_refused(root):
    path = root / "labels" / "photo03.png"
    image = Image.open(path)
    image.resize(image.size[::-1], Image.Resampling.BILINEAR).resize(image.size).save(path)
    with pytest.raises(ValueError, match=r"photo03.png: color .* more aren't colors of"):
        ImageFolder(root).check(progress=False)


def test_colors_without_a_palette_are_listed(root, tmp_path):
    (root / "palette.txt").unlink()
    with pytest.raises(UnnamedColors) as caught:
        ImageFolder(root)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{root / 'palette.txt'} doesn't exist; write a line `index R G B name`" in message
    assert all(" ".join(map(str, color)) in message for color in label_tools.COLORS.values())
    assert caught.value.lines[0] == "0 0 0 0 NAME0"
    assert len(caught.value.lines) == 4
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    save_image(root / "labels" / "photo00.png", noise)
    with pytest.raises(UnnamedColors, match=r"hold 3,\d+ of them, too many for classes; they were"):
        ImageFolder(root)


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("JPEG", "RGB", "label is a JPEG file, whose compression changes colors; export"),
        (
            "PNG",
            "L",
            "label has mode L, but the first label has colors; save all labels in the same",
        ),
        ("PNG", "RGBA", "2,448 pixels of the label are transparent; save it without transparency"),
    ],
)
def test_other_kinds_of_labels_are_named(root, name, mode, message):
    Image.new(mode, (64, 48) if mode != "RGBA" else (51, 48)).save(
        root / "labels" / "photo03.png", name
    )
    with pytest.raises(ValueError, match=rf"photo03.png: {message}"):
        ImageFolder(root).check(progress=False)


def test_contradictory_palettes_are_named(root):
    (root / "palette.txt").write_text("0 0 0 0 a\n1 0 0 0 b\n")
    with pytest.raises(
        ValueError, match=r"palette.txt: classes 0 and 1 have the same color 0 0 0;"
    ):
        ImageFolder(root)
    (root / "palette.txt").write_text("0 0 0 0 a\n1 9 9 9 b\n2 8 8 8 c\n")
    (root / "classes.txt").write_text("a\nb\n")
    with pytest.raises(
        ValueError, match=r"palette.txt: class 2 has a color but no name; there are 2"
    ):
        ImageFolder(root)
