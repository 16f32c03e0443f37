import math

import numpy as np
import pytest
from support import label_tools
from support.label_tools import cvat_file, cvat_mask, cvat_polygon, save_image

from keras_psp.data import load

masks = pytest.importorskip("pycocotools.mask")
SIZE = (40, 60)
SQUARE = [(5, 5), (30, 5), (30, 25), (5, 25)]


def write(root, shapes, *, size=SIZE, name="a.png"):
    save_image(root / "images" / "a.png", np.zeros((*SIZE, 3), np.uint8))
    (root / "annotations.xml").write_text(cvat_file([(name, size, shapes)]), "utf-8")
    return load("cvat", root=root)


def one(root, shapes, **arguments):
    return write(root, shapes, **arguments).example("all", 0)[1]


def drawn(points, size=SIZE):
    """A polygon by pycocotools, as CVAT's export of segmentation masks draws it."""
    flat = np.asarray(points, float).ravel().tolist()
    return masks.decode(masks.frPyObjects([flat], *size)[0]).astype(bool)


def test_polygons_are_drawn_as_by_cvats_mask_export_in_z_order(tmp_path, examples):
    label_tools.cvat(tmp_path, examples)
    source = load("cvat", root=tmp_path)
    expected = [scene.mask(drawn) for scene in examples]
    label_tools.assert_masks_equal(source, expected, examples)
    assert source.class_names == ("background", *label_tools.CLASSES)
    np.testing.assert_array_equal(source.palette[1:], list(label_tools.COLORS.values()))


def test_masks_are_exact(tmp_path, examples):
    label_tools.cvat(tmp_path, examples, kind="masks")
    expected = [scene.mask() for scene in examples]
    label_tools.assert_masks_equal(load("cvat", root=tmp_path), expected, examples)


def box(rotation=""):
    return (
        f'<box label="cat" source="manual" occluded="0" xtl="10.50" ytl="8.25" xbr="40.25" '
        f'ybr="20.75" {rotation} z_order="0"></box>'
    )


def test_boxes_are_drawn_like_polygons(tmp_path):
    corners = np.array([(10.5, 8.25), (40.25, 8.25), (40.25, 20.75), (10.5, 20.75)])
    np.testing.assert_array_equal(one(tmp_path, box()), drawn(corners))
    center, angle = (25.375, 14.5), math.radians(30)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = (corners - center) @ turn.T + center  # clockwise on the screen
    np.testing.assert_array_equal(one(tmp_path, box('rotation="30.00"')), drawn(turned))


@pytest.mark.parametrize("angle", [0, 35])
def test_ellipses_differ_from_opencv_within_a_pixel(tmp_path, angle):
    cv2 = pytest.importorskip("cv2")
    shape = f'<ellipse label="cat" cx="30.20" cy="19.60" rx="20.40" ry="9.70" rotation="{angle}"/>'
    expected = np.zeros(SIZE, np.uint8)
    cv2.ellipse(expected, (30, 20), (20, 10), angle, 0, 360, 1, -1)
    mask = one(tmp_path, shape)
    square = np.ones((3, 3), np.uint8)
    assert not (mask[cv2.dilate(expected, square) == 0]).any()
    assert (mask[cv2.erode(expected, square) == 1] == 1).all()
    assert (mask != expected).sum() < 0.04 * expected.sum()


def test_higher_shapes_are_above_and_equal_ones_in_the_order_of_the_file(tmp_path):
    low, high = cvat_polygon("cat", SQUARE, 0), cvat_polygon("dog", SQUARE, 5)
    assert one(tmp_path, high + low)[10, 10] == 2
    equal = cvat_polygon("dog", SQUARE, 0)
    assert one(tmp_path, equal + low)[10, 10] == 1


def test_masks_are_cut_at_the_borders_of_the_image(tmp_path):
    whole = np.ones((4, 4), bool)
    text = cvat_mask("cat", whole).replace('left="0"', 'left="-2"').replace('top="0"', 'top="38"')
    expected = np.zeros(SIZE, np.uint8)
    expected[38:, :2] = 1
    np.testing.assert_array_equal(one(tmp_path, text), expected)


def test_shapes_without_area_and_tags_are_left_out_and_counted(tmp_path, capsys):
    line = '<polyline label="cat" points="1,1;9,9" z_order="0"></polyline>'
    point = '<points label="cat" points="1,1" z_order="0"></points>'
    assert not one(tmp_path, line + line + point + '<tag label="cat"></tag>').any()
    err = capsys.readouterr().err
    assert "left out, since they have no area: 2 of type polyline, 1 of type points." in err


def test_subsets_of_a_project_are_splits(tmp_path, examples):
    names = ("Train", "Validation", "Test")
    images = []
    for scene, subset in zip(examples, names, strict=False):
        save_image(tmp_path / "images" / subset / "same.png", scene.image)
        images.append((f'same.png" subset="{subset}', scene.size, ""))
    (tmp_path / "annotations.xml").write_text(cvat_file(images))
    source = load("cvat", root=tmp_path)
    assert source.splits == ("train", "val", "test")
    for split, subset in zip(source.splits, names, strict=True):
        (pair,) = source.paths(split)
        assert pair[0] == tmp_path / "images" / subset / "same.png"
    (tmp_path / "annotations.xml").write_text(cvat_file([*images, images[0]]))
    with pytest.raises(ValueError, match="an image is listed twice; export it again"):
        load("cvat", root=tmp_path)


def test_spaces_around_a_label_have_no_meaning(tmp_path):
    save_image(tmp_path / "images" / "a.png", np.zeros((*SIZE, 3), np.uint8))
    text = cvat_file([("a.png", SIZE, cvat_polygon("cat ", SQUARE))], labels=("cat ",))
    (tmp_path / "annotations.xml").write_text(text)
    assert load("cvat", root=tmp_path).example("all", 0)[1][10, 10] == 1


def test_names_may_have_folders(tmp_path):
    for folder in ("day", "night"):
        save_image(tmp_path / "images" / folder / "a.png", np.zeros((*SIZE, 3), np.uint8))
    images = [("day/a.png", SIZE, cvat_polygon("cat", SQUARE)), ("night/a.png", SIZE, "")]
    (tmp_path / "annotations.xml").write_text(cvat_file(images))
    source = load("cvat", root=tmp_path)
    assert [source.example("all", index)[1].any() for index in (0, 1)] == [True, False]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (cvat_polygon("cat", SQUARE[:2]), r"shape 1, a polygon, \(cat\) has 2 point\(s\), but"),
        ('<polygon label="cat" points="1,1;2;3,3"/>', "has points that aren't pairs of numbers"),
        ('<polygon label="cat"/>', "shape 1, a polygon, .cat. has no points"),
        (
            '<box label="cat" xtl="1" ytl="x" xbr="2" ybr="3"/>',
            "has a xtl or .* that isn't a number",
        ),
        (
            '<star label="cat"/>',
            r"shape 1, a star, \(cat\) has an unknown type; known ones are polygon",
        ),
        ('<mask label="cat" rle="3, 4" left="0" top="0" width="9" height="9"/>', "that don't fill"),
        ('<mask label="cat" rle="3, x" left="0" top="0" width="9" height="9"/>', "that don't fill"),
        ('<mask label="cat" rle="3" left="0" top="0" width="0" height="9"/>', "has no pixels"),
        (
            cvat_polygon("cow", SQUARE),
            "is labeled 'cow', which isn't one of the classes in the lab",
        ),
        (cvat_polygon("cat", SQUARE, "x"), "shape 1, a polygon, has z_order='x'; export it again"),
    ],
)
def test_wrong_shapes_are_named(tmp_path, shapes, message):
    with pytest.raises(ValueError, match=message) as caught:
        one(tmp_path, shapes)
    assert str(caught.value).startswith(f"{tmp_path / 'annotations.xml'}#a.png: ")


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"was drawn for an image of 9x9, but .*a.png is 60x40"):
        one(tmp_path, "", size=(9, 9))
    with pytest.raises(ValueError, match=r"its image b.png isn't in"):
        write(tmp_path, "", name="b.png")
    with pytest.raises(ValueError, match="records a size of 'x' x 'y'"):
        write(tmp_path, "", size=("y", "x"))
    file = tmp_path / "annotations.xml"
    file.write_text("<annotations><track id='0' label='cat'></track></annotations>")
    with pytest.raises(
        ValueError, match="is 'CVAT for video'; export the task as 'CVAT for images"
    ):
        load("cvat", root=tmp_path)
    file.write_text("<annotations><image>")
    with pytest.raises(ValueError, match=r"isn't XML \(.*\); export it again"):
        load("cvat", root=tmp_path)
    file.write_text("<annotations></annotations>")
    with pytest.raises(
        ValueError, match="has no images; export the labels again, with their images"
    ):
        load("cvat", root=tmp_path)
    file.write_text("<annotation></annotation>")  # of PASCAL VOC
    with pytest.raises(ValueError, match=r"has no .xml of CVAT; export the task as"):
        load("cvat", root=tmp_path)


def test_labels_that_never_have_pixels_are_no_classes(tmp_path):
    write(tmp_path, "")
    file = tmp_path / "annotations.xml"
    extra = "<label><name>good</name><type>tag</type></label>"
    file.write_text(file.read_text().replace("</labels>", f"{extra}</labels>"))
    assert load("cvat", root=tmp_path).class_names == ("background", *label_tools.CLASSES)
