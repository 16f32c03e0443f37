"""Identity of a data set: its classes, files and contents, to tell later whether they changed."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.bands import channels_of, image_dtype_of
from keras_psp.data.examination import Examined
from keras_psp.files import printable

_CONTENT, _SIZE = "content", "size"


def data_identity(
    source: Any, splits: Iterable[str], examined: Mapping[str, Sequence[Examined]] | None = None
) -> dict[str, Any]:
    """Returns what results depend on in a data set, as plain data for JSON.

    It has the class names, `ignore_class`, the class of each value in label files and, for each
    split, the names and contents of its images and labels, in order. A source that isn't in files
    is described by its arguments and its first example.

    Args:
        source: a source of labeled images.
        splits: names of splits.
        examined: what the files of each split contain; contents are then compared, otherwise
            only file sizes in bytes.
    """
    identity: dict[str, Any] = {
        "class_names": list(source.class_names),
        "ignore_class": int(source.ignore_class),
        "values": _classes_of_values(source),
    }
    if channels_of(source) != 3:
        identity["bands"] = f"{channels_of(source)} of {image_dtype_of(source)}"
    if not (hasattr(source, "paths") and hasattr(source, "to_classes")):
        keys = [key for key in ("name", "seed", "image_size") if hasattr(source, key)]
        identity["source"] = {
            "kind": type(source).__name__,
            **{key: getattr(source, key) for key in keys},
            **{f"number of images in split {split!r}": source.count(split) for split in splits},
            **{f"first example of split {split!r}": _first(source, split) for split in splits},
        }
        return identity
    identity["compared by"] = _SIZE if examined is None else _CONTENT
    if examined is None:  # also shows whether labels are read differently
        identity["first examples"] = {split: _first(source, split) for split in splits}
    identity["splits"] = {
        split: _rows(source, split, None if examined is None else examined[split])
        for split in splits
    }
    return identity


def _classes_of_values(source):
    """Returns the class of each value that label files may hold; None if that isn't fixed."""
    if not hasattr(source, "to_classes") or not getattr(source, "classes_are_named", True):
        return None
    classes = {}
    for value in range(256):
        with contextlib.suppress(ValueError):
            classes[str(value)] = int(source.to_classes(np.array([[value]], np.uint8), "")[0, 0])
    return classes


def _first(source, split):
    """Returns digits that identify the first example of a source that reads them in any order."""
    if not hasattr(source, "example"):
        return None
    with contextlib.suppress(ValueError, OSError):  # reported when it is needed
        return example_digest(*source.example(split, 0))
    return None


def example_digest(image: Any, mask: Any) -> str:
    """Returns 16 hexadecimal digits that identify an image and its mask."""
    digest = hashlib.sha256()
    for array in map(np.asarray, (image, mask)):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _rows(source, split, items):
    if items is not None:
        contents = [(item.image, item.digest, item.label_digest) for item in items]
    else:
        file_of = getattr(source, "label_file", lambda label: label)  # of one for many images
        pairs = [(image, label and file_of(label)) for image, label in source.paths(split)]
        contents = [(image, _size(image), _size(label)) for image, label in pairs]
    root = getattr(source, "root", None)
    return [[_name(image, root), *digests] for image, *digests in contents]


def _size(path):
    return "" if path is None else f"{os.path.getsize(path)} bytes"


def _name(path, root):
    """The name of a file within the data set, which may be moved as a whole."""
    path = Path(path)
    inside = root is not None and path.is_relative_to(root)
    return printable(path.relative_to(root).as_posix() if inside else path.name)


def data_difference(stored: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """Returns what is different in a data set, as clauses for a sentence, or "".

    Args:
        stored: an earlier `data_identity`.
        present: the current one, with the same splits.

    Example:
        "3 of 367 labels in split 'train' were changed (first train0.png)"
    """
    stored, present = (json.loads(json.dumps(each, default=str)) for each in (stored, present))
    clauses = list(_other_classes(stored, present))
    clauses = clauses or list(_other_values(stored.get("values"), present["values"]))
    clauses += _other_arguments(stored.get("source"), present.get("source"))
    by = present.get("compared by")
    by = by if by == stored.get("compared by") else None
    for split, rows in (present.get("splits") or {}).items():
        before = (stored.get("splits") or {}).get(split)
        if before is None:
            clauses.append(f"split {split!r} wasn't used")
            continue
        if by is None:  # one of the two has sizes, so that only names can be compared
            before, rows = ([[name, "", ""] for name, *_ in each] for each in (before, rows))
        clauses += _other_files(before, rows, split, by)
    if not clauses:
        before, now = (each.get("first examples", {}) for each in (stored, present))
        shared = before.keys() & now.keys()
        clauses = [
            f"the first example of split {split!r} is read in another way"
            for split in sorted(shared)
            if before[split] != now[split]
        ]
    return ", and ".join(clauses)


def renamed_files(stored: Mapping[str, Any], present: Mapping[str, Any]) -> int:
    """Returns how many files were renamed but have the same contents in the same order."""
    if not stored.get("compared by") == present.get("compared by") == _CONTENT:
        return 0
    return sum(
        before[0] != row[0]
        for split, rows in present["splits"].items()
        for before, row in zip(stored["splits"].get(split, ()), rows, strict=False)
    )


def _other_classes(stored, present):
    if stored.get("bands") != present.get("bands"):
        rgb = "3 of uint8"
        yield f"the images' bands are {present.get('bands', rgb)}, not {stored.get('bands', rgb)}"
    before, names = stored.get("class_names", []), present["class_names"]
    if len(before) != len(names):
        yield f"there are {len(names)} classes, not {len(before)}"
    else:
        pairs = zip(before, names, strict=True)
        changed = [(i, one, two) for i, (one, two) in enumerate(pairs) if one != two]
        if changed:
            index, one, two = changed[0]
            more = f" ({len(changed) - 1} more differ)" if len(changed) > 1 else ""
            yield f"class {index} is {two!r}, not {one!r}{more}"
    if stored.get("ignore_class") != present["ignore_class"]:
        yield f"ignore_class is {present['ignore_class']}, not {stored.get('ignore_class')}"


def _other_values(before, now):
    if before is None or now is None:
        return
    for value in map(str, range(256)):
        if before.get(value) != now.get(value):
            yield (
                f"label value {value} is {_class_of(now.get(value))}, not "
                f"{_class_of(before.get(value))}"
            )
            return


def _class_of(index):
    return "refused" if index is None else f"class {index}"


def _other_arguments(before, now):
    if before is None and now is None:
        return
    if before is None or now is None:
        yield "it is another kind of source"
        return
    for key in now:
        if before.get(key) != now[key]:
            if key.startswith("first example"):
                yield f"the {key} was changed"
            else:
                yield f"the {key} is {now[key]!r}, not {before.get(key)!r}"


def _other_files(before, rows, split, by):
    """Returns clauses about what is different between the (name, image, label) of files."""
    contents = [[contents for _, *contents in each] for each in (before, rows)]
    if before == rows or (by == _CONTENT and contents[0] == contents[1]):
        return []  # at most renamed, with the same order
    old, new = ({name: contents for name, *contents in each} for each in (before, rows))
    added = [name for name in new if name not in old]
    removed = [name for name in old if name not in new]
    renamed = {}
    if by == _CONTENT:
        former = {tuple(old[name]): name for name in removed}
        renamed = {former[tuple(new[name])]: name for name in added if tuple(new[name]) in former}
    both = [name for name in new if name in old]
    changes = [
        ("images", "changed", [name for name in both if old[name][0] != new[name][0]]),
        ("labels", "changed", [name for name in both if old[name][1] != new[name][1]]),
        ("images", "renamed", list(renamed)),
        ("images", "added", [name for name in added if name not in renamed.values()]),
        ("images", "removed", [name for name in removed if name not in renamed]),
    ]
    clauses = [
        f"{len(names)} of {len(before)} {kind} in split {split!r} were {what} (first {names[0]})"
        for kind, what, names in changes
        if names
    ]
    return clauses or [f"the images in split {split!r} are in another order"]
