"""Watch a folder of versions while ten exports are written and three are killed.

    python benchmarks/version_folder.py --exports 10 --kills 3

A process polls the folder in a tight loop, and reads every file of a version the moment it sees
its number: the hash of each, all messages and all tensors. At the end each version must still be
what it was at first sight, and TensorFlow's C++ loader must open it and answer a picture. A
second row writes straight to the numbered folder, to show that the reader notices.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import environment, progress

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))


def export(folder, in_place, most):
    """Write versions until there are so many."""
    from keras_psp import DilatedResNet, PSPNet
    from keras_psp import export as exports
    from keras_psp.export.graph import Signature
    from keras_psp.export.to_saved_model import write_saved_model
    from keras_psp.export.versions import versions

    network = PSPNet(4, backbone=DilatedResNet(18, stem_filters=(8,), name="backbone"))
    while len(versions(folder)) < most:
        if in_place:
            number = max(versions(folder), default=0) + 1
            write_saved_model(network, folder / str(number), Signature())
        else:
            exports.tf_serving(network, folder, warmup_sizes=[(64, 48)])


def contents(folder):
    """{file: hash} of a version, all of which a server reads; raises where it can't."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    parsed = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    if not parsed.meta_graphs:
        raise ValueError("no graph")
    variables = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    for name in variables.get_variable_to_shape_map():
        variables.get_tensor(name)  # has a checksum
    return found


def watch(folder):
    """Poll until standard input ends; print what was seen of each version at first sight."""
    import select

    import tensorflow as tf  # noqa: F401  (before the first look)

    seen, polls = {}, 0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        polls += 1
        # As TensorFlow Serving: children that are numbers.
        for name in sorted(entry for entry in os.listdir(folder) if entry.isdigit()):
            if name not in seen:
                try:
                    seen[name] = contents(folder / name)
                except Exception as error:  # whatever a half-written file brings about
                    reason = str(error).splitlines()[0].replace(f"{folder}/", "")
                    seen[name] = f"{type(error).__name__}: {reason}"
    print(json.dumps({"polls": polls, "seen": seen}), flush=True)


def started(*arguments):
    """This program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def numbers(folder):
    return [name for name in os.listdir(folder) if name.isdigit()]


def measured(folder, generator, options, in_place):
    """What the reader saw: polls, versions, kills, and what was wrong with which version."""
    way = "--in-place" if in_place else "--write"
    watcher = started("--watch", folder)
    watcher.stdout.readline()
    kills = []
    while len(kills) < options.kills:
        exporter = started(way, folder, "--exports", options.exports)
        enough, moment = len(numbers(folder)) + generator.randint(1, 2), generator.uniform(0.0, 6.0)
        while len(numbers(folder)) < enough or not list(folder.glob(".draft-*")):
            if exporter.poll() is not None:
                raise SystemExit("an export failed")
            time.sleep(0.02)
        time.sleep(moment)  # of a draft's life, which takes seconds
        draft = len(
            list(folder.glob(".draft-*/version*")) + list(folder.glob(".draft-*/.version*"))
        )
        exporter.kill()
        exporter.wait()
        kills.append(f"{moment:.1f} s into a draft" + (", files written" if draft else ""))
        progress(f"kill -9 {kills[-1]}, {len(numbers(folder))} versions")
    exporter = started(way, folder, "--exports", options.exports)
    if exporter.wait():
        raise SystemExit("an export failed")
    watcher.stdin.close()
    found = json.loads(watcher.stdout.read())
    wrong = {}
    for name in sorted(numbers(folder), key=int):
        first = found["seen"].get(name, "never seen")
        if isinstance(first, str):
            wrong[name] = first
        elif not in_place and first != contents(folder / name):
            wrong[name] = "other files at the end than at first sight"
        elif not in_place and (error := unanswered(folder / name)):
            wrong[name] = error
    return found["polls"], len(numbers(folder)), kills, wrong


def unanswered(version):
    """Why the C++ loader can't open a version and answer, or None."""
    import c_session
    import hostile_payloads

    picture = hostile_payloads.encoded(hostile_payloads.noise(), "PNG")
    try:
        with c_session.CSession(version) as session:
            session("serve_bytes", [picture])
    except (RuntimeError, EOFError) as error:
        return str(error).splitlines()[0]
    return None


def main():
    """Print the table; fail if a broken version was seen, or the reader noticed none in place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exports", type=int, default=10)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    for name in ("--write", "--in-place", "--watch"):
        parser.add_argument(name, type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write or options.in_place:
        folder = options.write or options.in_place
        return export(folder, bool(options.in_place), options.exports)
    if options.watch:
        return watch(options.watch)
    generator = random.Random(options.seed)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for way, in_place in (
            ("`export.tf_serving`", False),
            ("`tf.saved_model.save` in place", True),
        ):
            folder = Path(name) / f"pspnet{int(in_place)}"
            folder.mkdir()
            if in_place:
                options.exports, options.kills = min(3, options.exports), 0
            progress(way)
            found[way] = measured(folder, generator, options, in_place)
    print(f"{environment(['tensorflow'])}\n")
    print("| written by | versions | kill -9 | polls | broken versions seen |")
    print("|---|---|---|---|---|")
    for way, (polls, count, kills, wrong) in found.items():
        print(f"| {way} | {count} | {len(kills)} | {polls:,} | {len(wrong)} |")
    print()
    for way, (_, _, kills, wrong) in found.items():
        for kill in kills:
            print(f"- {way}: kill -9 {kill}")
        for version, reason in wrong.items():
            print(f"- {way}: version {version}: {reason}")
    aside, in_place = (len(wrong) for *_, wrong in found.values())
    return aside > 0 or in_place == 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
