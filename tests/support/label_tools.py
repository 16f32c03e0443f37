"""Twelve small labeled images, and writers of the formats in which labeling tools export them.

The writers follow the tools' documentation: labelme 6.3, COCO's "data format", CVAT's XML format
1.1, Supervisely's JSON format and Roboflow's "Semantic Segmentation Masks".
"""

import base64
import dataclasses
import io
import json
import zlib

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "tree")
COLORS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "tree": (30, 30, 200)}
SIZES = ((48, 64), (37, 53), (61, 40))


@dataclasses.dataclass(frozen=True)
class Region:
    """A polygon of a class, its corners as (count, 2) float64, x and y."""

    label: str
    points: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scene:
    """An image with its regions, later ones over earlier ones."""

    name: str
    image: np.ndarray
    regions: tuple[Region, ...]

    @property
    def size(self):
        return self.image.shape[:2]

    def bitmap(self, region):
        """The pixels whose centers are inside a region."""
        return inside(region.points, self.size)

    def mask(self, draw=None):
        """Class indices, 0 for the background."""
        mask = np.zeros(self.size, np.uint8)
        for region in self.regions:
            drawn = self.bitmap(region) if draw is None else draw(region.points, self.size)
            mask[drawn] = 1 + CLASSES.index(region.label)
        return mask


def inside(points, size, *, center=0.5):
    """Even-odd rule at the pixels' centers, by counting the edges on the left."""
    rows, columns = np.mgrid[: size[0], : size[1]] + center
    odd = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (np.minimum(y0, y1) <= rows) & (rows < np.maximum(y0, y1))
        odd ^= crosses & (x0 + (rows - y0) * (x1 - x0) / (y1 - y0) < columns)
    return odd


def near_outline(points, size, distance, *, center=0.5):
    """Pixels whose centers are at most `distance` from a polygon's outline."""
    rows, columns = np.mgrid[: size[0], : size[1]] + center
    near = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-9)
        along = ((columns - x0) * (x1 - x0) + (rows - y0) * (y1 - y0)) / length
        along = np.clip(along, 0, 1)
        gap = np.hypot(columns - x0 - along * (x1 - x0), rows - y0 - along * (y1 - y0))
        near |= gap <= distance
    return near


def scenes(count=12, *, whole=False):
    """Scenes with 3 overlapping polygons each; with `whole`, corners are whole numbers."""
    rng = np.random.default_rng(7)
    result = []
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        regions = []
        for label in rng.permutation(CLASSES):
            corners = rng.integers(3, 9)
            angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
            radii = rng.uniform(0.15, 0.45, corners) * min(height, width)
            center = rng.uniform(0.25, 0.75, 2) * (width, height)
            points = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
            points = np.clip(points, 0, (width - 1, height - 1)).round(0 if whole else 2)
            regions.append(Region(str(label), points))
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        result.append(Scene(f"photo{number:02}", image, tuple(regions)))
    return result


def save_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def save_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def labelme_file(name, size, shapes):
    """The content of a .json of labelme; shapes are (label, type, points)."""
    return {
        "version": "6.3.1",
        "flags": {},
        "shapes": [
            {
                "label": label,
                "points": np.asarray(points).tolist(),
                "group_id": None,
                "description": "",
                "shape_type": kind,
                "flags": {},
                "mask": None,
            }
            for label, kind, points in shapes
        ],
        "imagePath": name,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def labelme(root, examples):
    for scene in examples:
        save_image(root / f"{scene.name}.png", scene.image)
        shapes = [(region.label, "polygon", region.points) for region in scene.regions]
        content = labelme_file(f"{scene.name}.png", scene.size, shapes)
        save_json(root / f"{scene.name}.json", content)


def coco_categories():
    return [{"id": 10 * i, "name": n, "supercategory": "x"} for i, n in enumerate(CLASSES, 1)]


def column_runs(mask):
    """COCO's run lengths of a mask: column by column, zeros first."""
    values = mask.T.ravel().astype(int)
    changes = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *changes, values.size]).tolist()
    return [0, *counts] if values[0] else counts


def compressed(counts):
    """The text form of run lengths: 5 bits and a flag for more in each character from "0" on."""
    text = ""
    for index, count in enumerate(counts):
        value = count - (counts[index - 2] if index > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


def coco_segmentation(scene, region, kind):
    if kind == "polygons":
        return [region.points.ravel().tolist()]
    counts = column_runs(scene.bitmap(region))
    return {"counts": counts if kind == "runs" else compressed(counts), "size": list(scene.size)}


def coco(root, examples, *, kind="polygons", folder="images", file="annotations/instances.json"):
    content = {"images": [], "annotations": [], "categories": coco_categories()}
    for number, scene in enumerate(examples, 1):
        save_image(root / folder / f"{scene.name}.png", scene.image)
        content["images"].append(
            {
                "id": number,
                "file_name": f"{scene.name}.png",
                "height": scene.size[0],
                "width": scene.size[1],
            }
        )
        for region in scene.regions:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 10 * (1 + CLASSES.index(region.label)),
                    "iscrowd": 0,
                    "segmentation": coco_segmentation(scene, region, kind),
                }
            )
    save_json(root / file, content)
    return content


def row_runs(mask):
    """CVAT's run lengths of a mask: row by row, zeros first."""
    return column_runs(mask.T)


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1], rows[-1]


def cvat_mask(label, mask, z_order=0):
    left, top, right, bottom = box_of(mask)
    counts = ", ".join(map(str, row_runs(mask[top : bottom + 1, left : right + 1])))
    return (
        f'<mask label="{label}" source="manual" occluded="0" rle="{counts}" left="{left}" '
        f'top="{top}" width="{right - left + 1}" height="{bottom - top + 1}" '
        f'z_order="{z_order}"></mask>'
    )


def cvat_polygon(label, points, z_order=0):
    text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return (
        f'<polygon label="{label}" source="manual" occluded="0" points="{text}" '
        f'z_order="{z_order}"></polygon>'
    )


def cvat_file(images, labels=CLASSES):
    """CVAT's annotations.xml; images are (name, size, XML of its shapes)."""
    listed = "".join(
        f"<label><name>{name}</name><color>#{bytes(COLORS.get(name, (0, 0, 0))).hex()}</color>"
        "<type>any</type><attributes></attributes></label>"
        for name in labels
    )
    elements = "".join(
        f'<image id="{number}" name="{name}" width="{size[1]}" height="{size[0]}">{shapes}</image>'
        for number, (name, size, shapes) in enumerate(images)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
        f"<id>1</id><name>photos</name><mode>annotation</mode><labels>{listed}</labels></task>"
        f"<dumped>2026-01-01 00:00:00+00:00</dumped></meta>{elements}</annotations>"
    )


def cvat(root, examples, *, kind="polygons"):
    images = []
    for scene in examples:
        save_image(root / "images" / f"{scene.name}.png", scene.image)
        # In the file from top to bottom; z_order says which one is above.
        shapes = [
            cvat_polygon(region.label, region.points, height)
            if kind == "polygons"
            else cvat_mask(region.label, scene.bitmap(region), height)
            for height, region in enumerate(scene.regions)
        ]
        images.append((f"{scene.name}.png", scene.size, "".join(reversed(shapes))))
    (root / "annotations.xml").write_text(cvat_file(images), "utf-8")


def png_text(mask):
    """A mask as Supervisely stores it: base64 of the zlib of a PNG with two colors."""
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def supervisely_object(label, kind, **geometry):
    return {
        "classId": CLASSES.index(label) + 1,
        "classTitle": label,
        "geometryType": kind,
        "description": "",
        "tags": [],
        **geometry,
    }


def supervisely_bitmap(label, mask):
    left, top, right, bottom = (int(side) for side in box_of(mask))
    data = png_text(mask[top : bottom + 1, left : right + 1])
    return supervisely_object(label, "bitmap", bitmap={"data": data, "origin": [left, top]})


def supervisely_polygon(label, points, holes=()):
    rings = {"exterior": np.asarray(points).tolist(), "interior": [list(hole) for hole in holes]}
    return supervisely_object(label, "polygon", points=rings)


def supervisely_meta(root):
    classes = [
        {"id": index, "title": name, "shape": "any", "color": f"#{bytes(COLORS[name]).hex()}"}
        for index, name in enumerate(CLASSES, 1)
    ]
    save_json(root / "meta.json", {"classes": classes, "tags": [], "projectType": "images"})


def supervisely_file(path, size, objects):
    content = {"description": "", "tags": [], "size": {"height": size[0], "width": size[1]}}
    save_json(path, {**content, "objects": objects})


def supervisely(root, examples, *, kind="bitmap", dataset="ds1"):
    supervisely_meta(root)
    for scene in examples:
        save_image(root / dataset / "img" / f"{scene.name}.png", scene.image)
        objects = [
            supervisely_bitmap(region.label, scene.bitmap(region))
            if kind == "bitmap"
            else supervisely_polygon(region.label, region.points.astype(int))
            for region in scene.regions
        ]
        supervisely_file(root / dataset / "ann" / f"{scene.name}.png.json", scene.size, objects)


def roboflow(root, examples):
    parts = {"train": examples[:8], "valid": examples[8:10], "test": examples[10:]}
    for folder, part in parts.items():
        for scene in part:
            save_image(root / folder / f"{scene.name}.jpg", scene.image)
            save_image(root / folder / f"{scene.name}_mask.png", scene.mask())
        rows = [" Pixel Value, Class", "0, background"]
        rows += [f"{index}, {name}" for index, name in enumerate(CLASSES, 1)]
        (root / folder / "_classes.csv").write_text("\n".join(rows) + "\n")


def palette_text(names=("background", *CLASSES)):
    colors = {"background": (0, 0, 0), **COLORS}
    return "".join(f"{i} {' '.join(map(str, colors[n]))} {n}\n" for i, n in enumerate(names))


def colored(mask):
    return np.array([(0, 0, 0), *COLORS.values()], np.uint8)[mask]


def masks_of(source, examples, split="all"):
    """The masks of a source in the order of the scenes, whatever its own order."""
    order = {image.stem: index for index, (image, _) in enumerate(source.paths(split))}
    return [source.example(split, order[scene.name])[1] for scene in examples]


def assert_masks_equal(source, expected, examples, split="all"):
    masks = masks_of(source, examples, split)
    for scene, mask, other in zip(examples, masks, expected, strict=True):
        np.testing.assert_array_equal(mask, other, err_msg=scene.name)
    assert {int(v) for mask in masks for v in np.unique(mask)} == {0, 1, 2, 3}
