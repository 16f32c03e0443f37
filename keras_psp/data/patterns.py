"""Pairs images and labels by patterns of their file names."""

import collections
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from keras_psp.data.division import SPLITS, split_folders, split_named
from keras_psp.data.images import IMAGE_SUFFIXES
from keras_psp.data.pairs import Pair

IMAGES, LABELS = "images/*", "labels/{stem}.png"

_TOKEN = re.compile(r"\*\*/|\*|\?|\{(\w+)\}")
_FOLDERS = "folders_"  # what ** matched
_SPLIT = "split"


def pairs_by_pattern(root: Path, images: str, labels: str) -> dict[str, list[Pair]]:
    """Pairs images and labels by patterns of their paths within `root`.

    In `images`, `*` and `?` match within a name and `**/` any folders; `{word}` is like `*` and
    gives the part a name. In `labels`, `{stem}` is the image's name without suffix, `{name}` its
    name with suffix, and `**/` and `{word}` are what they matched in `images`. The name `{split}`
    divides the examples by the names of the folders that it matches.

    Returns:
        The (image, label) paths of each split, sorted; of "" if there are no splits. Splits come
        from `{split}`, else from folders train, val and test in which the patterns match.

    Raises:
        ValueError: if a pattern is invalid or matches nothing, or a label or image is missing.
    """
    _check(images, labels)
    pairs = _paired(root, images, labels)
    if pairs:
        return pairs
    folders = split_folders(root) if root.is_dir() and f"{{{_SPLIT}}}" not in images else {}
    pairs = {
        split: inner[""]
        for split, folder in folders.items()
        if (inner := _paired(folder, images, labels))
    }
    if not pairs:
        raise ValueError(
            f"{root}: no image matches images={images!r}; images end in "
            f"{', '.join(IMAGE_SUFFIXES)}, and upper and lower case differ."
        )
    return pairs


def _paired(root, images, labels):
    """Returns the pairs of each split, {} if no image matches."""
    found = list(_matches(root, images))
    if not found:
        return {}
    targets = [_filled(labels, path, values) for path, values in found]
    of_labels = {str(root / target) for target in targets}
    pairs = collections.defaultdict(list)
    owner: dict[Path, Path] = {}
    for (path, values), target in zip(found, targets, strict=True):
        image, label = root / path, root / target
        if image == label:
            raise ValueError(
                f"{image}: images={images!r} and labels={labels!r} match the same file; each needs "
                "a folder or an ending of its own."
            )
        if str(image) in of_labels:  # a label in the folder of the images
            continue
        if label in owner:
            raise ValueError(
                f"{label}: is the label of both {owner[label].name} and {image.name}; names must "
                "be unique, or differ by {name} or **/ in labels."
            )
        owner[label] = image
        if not label.is_file():
            raise ValueError(f"{image}: image has no label; {_why_missing(root, path, label)}.")
        split = values.get(_SPLIT)
        pairs[(split_named(split) or split) if split else ""].append((image, label))
    _check_orphans(root, labels, owner)
    order = [*SPLITS, *sorted(pairs.keys() - set(SPLITS))]
    return {split: sorted(pairs[split]) for split in order if split in pairs}


def _why_missing(root, path, label):
    folder = label.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    return why_no_label(root, [path], label)


def why_no_label(root: Path, images: Sequence[str], label: Path) -> str:
    """Returns what to do about a missing label, given paths of images within `root`.

    If the label's folder has files with other names, it suggests their pattern.
    """
    folder = label.parent
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    if f"{label.stem}.txt" in names:
        return (
            f"{folder / label.stem}.txt looks like YOLO's labels, which aren't read; export COCO, "
            "or masks as PNG, from the program that drew them"
        )
    patterns = suggested(images, names)
    if patterns is None:
        return f"add {label}, or remove the image"
    image, template = patterns
    options = {"labels": _within(folder, root) + template}
    if image != "*":
        options = {"images": images[0][: images[0].rfind("/") + 1] + image, **options}
    given = " and ".join(f"{key}={value!r}" for key, value in options.items())
    return (
        f"there is no {label.name} in {folder} but other files; if they are the labels, give "
        f"{given}"
    )


def _check_orphans(root, labels, owner):
    """Refuses label files without an image, which a wrong pattern would leave out."""
    used = {*owner, *owner.values()}
    for path, _ in _matches(root, re.sub(r"\{\w+\}", "*", labels), suffixes=None):
        if root / path not in used:
            raise ValueError(
                f"{root / path}: label has no image; add the image, remove the label, or change "
                "the patterns images and labels."
            )


def _matches(root, pattern, suffixes=IMAGE_SUFFIXES):
    """Yields the paths within `root` that match, with what the names in the pattern stand for."""
    parts = pattern.split("/")
    fixed = 0
    while fixed < len(parts) - 1 and not _TOKEN.search(parts[fixed] + "/"):
        fixed += 1
    base = Path(*parts[:fixed]) if fixed else Path()
    prefix = "".join(f"{part}/" for part in parts[:fixed])
    expression = _expression("/".join(parts[fixed:]))
    deepest = None if "**/" in pattern else len(parts) - fixed
    for folder, folders, names in os.walk(root / base):
        inside = Path(folder).relative_to(root / base).parts
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if deepest is not None and len(inside) + 1 >= deepest:
            folders.clear()
        for name in sorted(names):
            # macOS writes a file with a leading dot next to every file on foreign disks.
            if name.startswith("."):
                continue
            if suffixes and os.path.splitext(name)[1].lower() not in suffixes:
                continue
            match = expression.fullmatch("/".join((*inside, name)))
            if match:
                yield prefix + match[0], match.groupdict()


def image_files(folder: Path) -> Iterator[tuple[str, dict]]:
    """Yields the paths, within a folder, of the images in it and its subfolders, by suffix."""
    return _matches(folder, "**/*")


def _expression(pattern):
    parts, end, folders = [], 0, f"(?P<{_FOLDERS}>(?:[^/]+/)*)"
    for token in _TOKEN.finditer(pattern):
        parts.append(re.escape(pattern[end : token.start()]))
        end = token.end()
        if token[0] == "**/":
            parts.append(folders)
            folders = "(?:[^/]+/)*"
        elif token[1]:
            parts.append(f"(?P<{token[1]}>[^/]+)")
        else:
            parts.append("[^/]" + ("*" if token[0] == "*" else ""))
    return re.compile("".join(parts) + re.escape(pattern[end:]), re.DOTALL)


def _filled(labels, path, values):
    name = path.rpartition("/")[2]
    known = {**values, "name": name, "stem": os.path.splitext(name)[0], None: values.get(_FOLDERS)}
    return _TOKEN.sub(lambda token: known[token[1]], labels)


def _check(images, labels):
    """Raises a ValueError if a pattern is invalid, or they don't fit each other."""
    for key, pattern in (("images", images), ("labels", labels)):
        if not isinstance(pattern, str) or not pattern or pattern.endswith("/"):
            raise ValueError(f"{key} is {pattern!r}; it must be a pattern such as {IMAGES!r}.")
    names = [token[1] for token in _TOKEN.finditer(images) if token[1]]
    wrong = {"name", "stem"} & set(names)
    twice = [name for name in names if names.count(name) > 1]
    if wrong or twice or images.count("**/") > 1:
        what = f"{{{[*sorted(wrong), *twice][0]}}}" if wrong or twice else "**/"
        raise ValueError(
            f"images={images!r}: {what} "
            + ("is for labels only." if wrong else "may occur only once.")
        )
    for token in _TOKEN.finditer(labels):
        if token[0] in ("*", "?"):
            raise ValueError(
                f"labels={labels!r}: {token[0]} doesn't say which label an image has; use {{stem}} "
                "for the image's name without suffix, e.g. 'masks/{stem}_mask.png'."
            )
        if token[0] == "**/" and "**/" not in images:
            raise ValueError(f"labels={labels!r}: **/ must occur in images as well.")
        if token[1] and token[1] not in ("name", "stem", *names):
            known = ", ".join(f"{{{name}}}" for name in ("stem", "name", *names))
            raise ValueError(f"labels={labels!r}: {token[0]} is unknown; known are {known}.")
    if not _TOKEN.search(labels):
        raise ValueError(
            f"labels={labels!r}: is the same for all images; use {{stem}} for the image's name "
            "without suffix."
        )


def suggested(images: Iterable[str], labels: Sequence[str]) -> tuple[str, str] | None:
    """Suggests patterns that match label files to images; None if there are none.

    Args:
        images: paths of images.
        labels: names of other files, for instance x_mask.png.

    Returns:
        The most frequent patterns of an image's name and its label's, for instance
        ("*", "{stem}_mask.png"), or ("{id}_leftImg8bit.png", "{id}_labelIds.png").
    """
    names = [image.rpartition("/")[2] for image in images][:200]
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for name in names:
        stem, suffix = os.path.splitext(name)
        first, _, last = stem.rpartition("_")
        parts = [(name, "{name}", "*"), (stem, "{stem}", "*")]
        parts += [(first, "{id}", f"{{id}}_{last}{suffix}")] if first else []
        for text, word, image in parts:
            templates = [
                (image, template)
                for label in labels
                if label not in names and (template := _template(label, text, word))
            ]
            found.update(templates)
            if templates:
                break
    return found.most_common(1)[0][0] if found else None


def _template(label, text, word):
    """Returns a label's name with the word in place of an image's, or None if it has none."""
    # Image 1 must not get the label of image 10.
    match = re.search(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])", label)
    return f"{label[: match.start()]}{word}{label[match.end() :]}" if match else None


def _within(folder, root):
    inside = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)
    return "" if inside == "." else f"{inside}/"
