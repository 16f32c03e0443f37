"""Checks that readers of a version folder never see a partly written export.

    python benchmarks/version_folder.py --exports 10 --kills 3

Ten exports are written and three are killed, while a process polls the folder in a tight loop and
reads every file of a new version at once: the hash of each, all messages and all tensors. At the
end each version must be unchanged, and TensorFlow's C++ loader must open it and segment an image.
A second row writes directly to the numbered folder, to show that the reader detects this.
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

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def export(folder, in_place, most):
    """Writes versions until there are `most`."""
    import tensorflow as tf
    from support.networks import tiny_pspnet

    from keras_psp import export as exports
    from keras_psp.export.graph import inference_function
    from keras_psp.export.to_saved_model import save_signatures
    from keras_psp.export.versions import versions

    network = tiny_pspnet()
    serve = inference_function(network)
    while len(versions(folder)) < most:
        if in_place:
            number = max(versions(folder), default=0) + 1
            images = tf.TensorSpec((None, None, None, 3), "uint8", name="image")
            signatures = {"serving_default": (lambda image: serve(image, "classes"), images)}
            save_signatures(folder / str(number), **signatures)
        else:
            exports.tf_serving(network, folder, warmup_sizes=[(64, 48)])


def contents(folder):
    """Reads a version like a server and returns {file: hash}; raises if it is incomplete."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    parsed = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    if not parsed.meta_graphs:
        raise ValueError("no graph")
    variables = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    for name in variables.get_variable_to_shape_map():
        variables.get_tensor(name)  # checks a checksum
    return hashes


def watch(folder):
    """Polls until stdin ends, then prints the contents of each version when it appeared."""
    import select

    import tensorflow as tf  # noqa: F401  (imported before polling)

    seen, polls = {}, 0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        polls += 1
        # Like TensorFlow Serving: children whose names are numbers.
        for name in sorted(entry for entry in os.listdir(folder) if entry.isdigit()):
            if name not in seen:
                try:
                    seen[name] = contents(folder / name)
                except Exception as error:  # a partly written file can raise anything
                    reason = str(error).splitlines()[0].replace(f"{folder}/", "")
                    seen[name] = f"{type(error).__name__}: {reason}"
    print(json.dumps({"polls": polls, "seen": seen}), flush=True)


def started(*arguments):
    """Starts this program in another process."""
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
    """Runs the exports and returns polls, versions, kills, and errors by version."""
    option = "--in-place" if in_place else "--write"
    watcher = started("--watch", folder)
    watcher.stdout.readline()
    kills = []
    while len(kills) < options.kills:
        exporter = started(option, folder, "--exports", options.exports)
        enough, moment = len(numbers(folder)) + generator.randint(1, 2), generator.uniform(0.0, 6.0)
        while len(numbers(folder)) < enough or not list(folder.glob(".draft-*")):
            if exporter.poll() is not None:
                raise SystemExit("an export failed")
            time.sleep(0.02)
        time.sleep(moment)  # a draft takes seconds to write
        draft = len(
            list(folder.glob(".draft-*/version*")) + list(folder.glob(".draft-*/.version*"))
        )
        exporter.kill()
        exporter.wait()
        kills.append(f"{moment:.1f} s into a draft" + (", files written" if draft else ""))
        progress(f"kill -9 {kills[-1]}, {len(numbers(folder))} versions")
    exporter = started(option, folder, "--exports", options.exports)
    if exporter.wait():
        raise SystemExit("an export failed")
    watcher.stdin.close()
    observed = json.loads(watcher.stdout.read())
    wrong = {}
    for name in sorted(numbers(folder), key=int):
        first = observed["seen"].get(name, "never seen")
        if isinstance(first, str):
            wrong[name] = first
        elif not in_place and first != contents(folder / name):
            wrong[name] = "files changed after it appeared"
        elif not in_place and (error := serving_error(folder / name)):
            wrong[name] = error
    return observed["polls"], len(numbers(folder)), kills, wrong


def serving_error(version):
    """The error of the C++ loader when it opens a version and segments an image, or None."""
    from support import c_session, hostile_payloads

    image = hostile_payloads.encoded(hostile_payloads.noise(), "PNG")
    try:
        with c_session.CSession(version) as session:
            session("serve_bytes", [image])
    except (RuntimeError, EOFError) as error:
        return str(error).splitlines()[0]
    return None


def main():
    """Prints the table; returns whether a reader saw a broken version, or none in place."""
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
    results = {}
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
            results[way] = measured(folder, generator, options, in_place)
    print(f"{environment(['tensorflow'])}\n")
    print("| written by | versions | kill -9 | polls | broken versions seen |")
    print("|---|---|---|---|---|")
    for way, (polls, count, kills, wrong) in results.items():
        print(f"| {way} | {count} | {len(kills)} | {polls:,} | {len(wrong)} |")
    print()
    for way, (_, _, kills, wrong) in results.items():
        for kill in kills:
            print(f"- {way}: kill -9 {kill}")
        for version, reason in wrong.items():
            print(f"- {way}: version {version}: {reason}")
    aside, in_place = (len(wrong) for *_, wrong in results.values())
    return aside > 0 or in_place == 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
