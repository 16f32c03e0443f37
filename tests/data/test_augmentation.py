import numpy as np
import pytest

from keras_psp.data.augmentation import augmented, class_mixed, erased

MEAN = (123.675, 116.28, 103.53)


def drawn(
    image,
    mask,
    *,
    angle=None,
    blur=False,
    crop,
    mirror=False,
    scale=1.0,
    color=0.0,
    colors=(0,) * 4,
):
    """Augments an image from its upper left corner, with given parameters."""
    turned = 0.0 if angle is not None else 1.0
    draw = np.array([0.5, 0.0, 0.0, 0.0, turned, 0.5, 0.0, 0.0, *colors], "float32")
    angles = (angle, angle) if angle is not None else (0.0, 0.0)
    image, mask = augmented(
        image,
        mask,
        draw,
        crop=crop,
        scale=(scale, scale),
        mirror=mirror,
        angles=angles,
        blur=blur,
        fill=np.array(MEAN, "float32"),
        ignore_class=255,
        color=color,
    )
    return image.numpy(), mask.numpy()


def test_a_quarter_turn_is_a_quarter_turn_about_half_of_width_and_height():
    # cv2.getRotationMatrix2D((w / 2, h / 2), 90, 1): (x, y) goes to (y, w - x), so that
    # the first column is filled.
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (8, 8, 3), np.uint8)
    mask = random.integers(0, 10, (8, 8), np.uint8)
    result, labels = drawn(image, mask, angle=90.0, crop=(8, 8))
    np.testing.assert_allclose(result[1:], np.rot90(image)[:-1], atol=2e-2)
    np.testing.assert_array_equal(labels[1:], np.rot90(mask)[:-1])
    np.testing.assert_allclose(result[0], np.broadcast_to(MEAN, (8, 3)))
    assert (labels[0] == 255).all()
    # The mirror comes after the rotation.
    flipped, flipped_labels = drawn(image, mask, angle=90.0, crop=(8, 8), mirror=True)
    np.testing.assert_allclose(flipped, result[:, ::-1], atol=2e-2)
    np.testing.assert_array_equal(flipped_labels, labels[:, ::-1])


def test_the_blur_is_a_gaussian_of_five_pixels_without_padding():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (12, 12, 3), np.uint8)
    mask = np.zeros((12, 12), np.uint8)
    result, labels = drawn(image, mask, blur=True, crop=(16, 16))
    assert (labels[2:14, 2:14] == 0).all() and (labels == 255).sum() == 16 * 16 - 12 * 12
    np.testing.assert_allclose(result[:2], np.broadcast_to(MEAN, (2, 16, 3)))
    # cv2.getGaussianKernel(5, 0) has the deviation 1.1.
    weights = np.exp(-(np.arange(-2.0, 3) ** 2) / (2 * 1.1**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    for y, x in ((5, 5), (2, 7), (9, 9)):
        expected = np.einsum(
            "ij,ijc->c", weights, image[y - 2 : y + 3, x - 2 : x + 3].astype(float)
        )
        np.testing.assert_allclose(result[y + 2, x + 2], expected, rtol=1e-5)
    # The border is repeated, not the filling.
    edge = np.pad(image.astype(float), ((2, 2), (2, 2), (0, 0)), mode="edge")
    expected = np.einsum("ij,ijc->c", weights, edge[0:5, 0:5])
    np.testing.assert_allclose(result[2, 2], expected, rtol=1e-5)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("angle", [-10.0, 7.0, 44.0, 60.0, 170.0])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6])
def test_a_rotated_plane_is_the_plane_at_rotated_positions(scale, angle, mirror):
    # Any interpolation between neighbors keeps what is linear.
    height, width, crop = 50, 60, (64, 72)
    y, x = np.mgrid[:height, :width]
    image = np.stack([2 * x + y, 2 * y, 240 - 3 * x], -1).astype("uint8")
    result, labels = drawn(
        image, np.zeros_like(image[..., 0]), angle=angle, crop=crop, mirror=mirror, scale=scale
    )
    # Where cv2.warpAffine with cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1) looks.
    sides = np.array([round(height * scale), round(width * scale)])
    offset = [-(max(c - s, 0) // 2) for s, c in zip(sides, crop, strict=True)]
    rows, columns = np.mgrid[: crop[0], : crop[1]]
    rows, columns = rows + offset[0], columns + offset[1]
    within = (rows >= 0) & (rows < sides[0]) & (columns >= 0) & (columns < sides[1])
    if mirror:
        columns = sides[1] - 1 - columns
    turn = np.deg2rad(angle)
    dx, dy = columns - sides[1] / 2, rows - sides[0] / 2
    across = np.cos(turn) * dx - np.sin(turn) * dy + sides[1] / 2
    down = np.sin(turn) * dx + np.cos(turn) * dy + sides[0] / 2
    inside = within & (np.rint(across) >= 0) & (np.rint(across) < sides[1])
    inside &= (np.rint(down) >= 0) & (np.rint(down) < sides[0])
    x, y = (across + 0.5) / scale - 0.5, (down + 0.5) / scale - 0.5
    whole = inside & (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2)
    assert whole.sum() > 500
    expected = np.stack([2 * x + y, 2 * y, 240 - 3 * x], -1)
    np.testing.assert_allclose(result[whole], expected[whole], atol=5e-3)
    unsure = np.abs(np.stack([across, down]) % 1 - 0.5).min(0) < 1e-3
    np.testing.assert_array_equal((labels == 0)[~unsure], inside[~unsure])
    outside = ~inside & ~unsure
    np.testing.assert_array_equal(result[outside], np.full((outside.sum(), 3), MEAN, "float32"))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("scale", [0.31, 0.5, 0.99, 1.0, 1.001, 1.37, 2.0, 7.3])
def test_an_upright_image_is_sampled_like_opencvs_resize(scale, mirror):
    random = np.random.default_rng(0)
    height, width, crop = 23, 31, (40, 36)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    mask = random.integers(0, 10, (height, width), np.uint8)
    result, labels = drawn(image, mask, crop=crop, mirror=mirror, scale=scale)
    expected, kept = np.tile(np.float64(MEAN), (*crop, 1)), np.full(crop, 255)
    sides = round(height * scale), round(width * scale)
    first = [(c - s) // 2 if s < c else 0 for s, c in zip(sides, crop, strict=True)]
    for i in range(crop[0]):
        for j in range(crop[1]):
            row, column = i - first[0], j - first[1]
            if not (0 <= row < sides[0] and 0 <= column < sides[1]):
                continue
            column = sides[1] - 1 - column if mirror else column
            y = np.clip((row + 0.5) / scale - 0.5, 0, height - 1)
            x = np.clip((column + 0.5) / scale - 0.5, 0, width - 1)
            top, left = min(int(y), height - 2), min(int(x), width - 2)
            square = image[top : top + 2, left : left + 2].astype(float)
            expected[i, j] = np.einsum(
                "ijc,i,j->c", square, [top + 1 - y, y - top], [left + 1 - x, x - left]
            )
            corner = [int(at * (1 / float(np.float32(scale)))) for at in (row, column)]
            kept[i, j] = mask[tuple(np.minimum(corner, (height - 1, width - 1)))]
    np.testing.assert_allclose(result, expected, atol=0.01)
    np.testing.assert_array_equal(labels, kept)


@pytest.mark.parametrize("angle", [None, 10.0, 90.0])
def test_images_and_crops_of_one_pixel(angle):
    image, mask = np.full((1, 1, 3), 9, np.uint8), np.full((1, 1), 3, np.uint8)
    result, labels = drawn(image, mask, angle=angle, blur=True, crop=(5, 5))
    if angle is None:
        assert labels[2, 2] == 3 and (labels == 255).sum() == 24
        np.testing.assert_allclose(result[2, 2], 9, rtol=1e-5)
    image, mask = np.full((6, 7, 3), 9, np.uint8), np.full((6, 7), 3, np.uint8)
    result, labels = drawn(image, mask, angle=angle, blur=True, crop=(1, 1))
    assert result.shape == (1, 1, 3) and labels.shape == (1, 1)


def test_colors_change_as_drawn_and_labels_and_padding_do_not():
    random = np.random.default_rng(0)
    image = random.integers(60, 180, (8, 8, 3), np.uint8)
    mask = random.integers(0, 10, (8, 8), np.uint8)

    def changed(*colors, strength=1.0):
        result, labels = drawn(image, mask, crop=(10, 8), color=strength, colors=colors)
        np.testing.assert_array_equal(labels[1:9], mask)
        np.testing.assert_allclose(result[0], np.broadcast_to(MEAN, (8, 3)))
        return result[1:9]

    original = image.astype("float32")
    # Draws below a half change nothing; 0.5 is the lowest value and 1 would be the highest.
    np.testing.assert_allclose(changed(0.4, 0.1, 0.0, 0.49), original, atol=1e-3)
    np.testing.assert_allclose(changed(0.5, 0, 0, 0), original - 32, atol=1e-3)
    np.testing.assert_allclose(changed(0.5, 0, 0, 0, strength=0.25), original - 8, atol=1e-3)
    np.testing.assert_allclose(changed(0, 0.875, 0, 0), original * 1.25, atol=1e-3)
    # Without saturation a pixel is gray, as bright as its largest channel.
    gray = changed(0, 0, 0.5, 0, strength=2.0)
    np.testing.assert_allclose(gray, np.repeat(original.max(-1, keepdims=True), 3, -1), atol=1e-3)
    # A turn of the hue by 36 degrees keeps the largest and the smallest channel.
    turned = changed(0, 0, 0, 0.5)
    np.testing.assert_allclose(turned.max(-1), original.max(-1), atol=1e-2)
    np.testing.assert_allclose(turned.min(-1), original.min(-1), atol=1e-2)
    assert np.abs(turned - original).mean() > 5


@pytest.mark.parametrize(
    # A share of 0.02 + 0.38 * 0.5 = 0.21 of 20 x 30 pixels is 126; square, or three times as tall.
    ("draw", "rows", "columns"),
    [
        ((0.5, 0.5, 0.0, 0.0), (0, 11), (0, 11)),
        ((0.5, 0.5, 0.999, 0.999), (9, 20), (19, 30)),
        ((0.5, 1.0, 0.0, 0.5), (0, 20), (12, 18)),  # 20.5 rows don't fit
        ((0.0, 0.0, 0.5, 0.5), (9, 11), (12, 18)),  # 1.9 by 6.3
    ],
)
def test_the_erased_rectangle_is_filled_and_ignored(draw, rows, columns):
    random = np.random.default_rng(0)
    image = random.uniform(0, 255, (20, 30, 3)).astype("float32")
    mask = random.integers(0, 10, (20, 30)).astype("int32")
    fill = np.array(MEAN, "float32")
    result, labels = erased(image, mask, np.float32(draw), fill=fill, ignore_class=17)
    inside = np.zeros((20, 30), bool)
    inside[slice(*rows), slice(*columns)] = True
    np.testing.assert_array_equal(labels, np.where(inside, 17, mask))
    np.testing.assert_array_equal(result, np.where(inside[..., None], fill, image))


def test_half_of_the_classes_are_pasted_with_their_labels():
    random = np.random.default_rng(0)
    image, other = random.uniform(0, 255, (2, 8, 9, 3)).astype("float32")
    mask = random.integers(0, 3, (8, 9)).astype("int32")
    # Five classes, of which two are pasted, and ignored pixels, which never are.
    other_mask = random.choice([3, 4, 5, 6, 7, 255], (8, 9)).astype("int32")
    seen = []
    for draw in random.random((40, 2), "float32"):
        mixed, labels = class_mixed(image, mask, other, other_mask, draw, ignore_class=255)
        labels = np.asarray(labels)
        chosen = sorted(set(np.unique(labels).tolist()) - {0, 1, 2})
        assert len(chosen) == 2 and 255 not in chosen
        pasted = np.isin(other_mask, chosen)
        np.testing.assert_array_equal(labels, np.where(pasted, other_mask, mask))
        np.testing.assert_array_equal(mixed, np.where(pasted[..., None], other, image))
        seen.append(tuple(chosen))
    assert len(set(seen)) > 6  # of ten pairs
    # The same numbers choose the same classes wherever these are.
    flipped = other_mask[::-1, ::-1]
    again = class_mixed(image, mask, other, flipped, draw, ignore_class=255)[1]
    assert set(np.unique(again).tolist()) - {0, 1, 2} == set(chosen)


@pytest.mark.parametrize("value", [4, 255])
def test_one_class_or_none_is_never_pasted(value):
    image, mask = np.zeros((4, 5, 3), "float32"), np.zeros((4, 5), "int32")
    other_mask = np.full_like(mask, value)
    draw = np.float32([0.3, 0.6])
    mixed, labels = class_mixed(image, mask, image + 9, other_mask, draw, ignore_class=255)
    assert not np.any(labels) and not np.any(mixed)
