"""`keras-psp calibrate`: makes a network as confident as it is right."""

import argparse
from pathlib import Path
from typing import Any

from keras_psp.cli.checks import check_output
from keras_psp.cli.data import add_data_options, add_model_and_data, data_options
from keras_psp.cli.protocol import add_protocol, protocol_arguments


def add(commands: Any) -> None:
    """Adds the command to the parser's subcommands."""
    calibrate = commands.add_parser(
        "calibrate",
        help="fit the temperature of a network's probabilities",
        description="Find the temperature with which the probabilities of a network fit a labeled "
        "split it wasn't trained on, print calibration error (ECE, 15 bins), negative "
        "log-likelihood (NLL) and Brier score before and after, draw the reliability diagram, and "
        "store the temperature in the network's .keras file. Class maps stay the same.",
        epilog="""\
examples:
  keras-psp calibrate folder --data photos/ --model runs/mine
  keras-psp calibrate camvid --data CamVid --model runs/camvid --test-split test
  keras-psp calibrate ade20k --data ADEChallengeData2016/ --output calibration \\
      --model pspnet_r50-d8_512x512_160k_ade20k --save-as calibrated.keras
""",
    )
    add_model_and_data(calibrate, "val", split_use="split to fit the temperature to")
    calibrate.add_argument("--test-split", metavar="SPLIT", help="split to also measure errors on")
    calibrate.add_argument(
        "--save-as",
        type=Path,
        metavar="FILE",
        help="new .keras file for the calibrated network [the network's own file]",
    )
    calibrate.add_argument(
        "--output",
        type=Path,
        help="folder for calibration.json and reliability.png [calibration, next to the network]",
    )
    calibrate.add_argument(
        "--pixels", type=int, default=500_000, help="number of pixels to sample per split [500000]"
    )
    calibrate.add_argument("--seed", type=int, default=0, help="seed of the sample [0]")
    calibrate.add_argument("--limit", type=int, help="number of images to use per split [all]")
    add_data_options(calibrate)
    add_protocol(calibrate)


def run(options: argparse.Namespace) -> int:
    """Prints the errors before and after, and stores the temperature."""
    from keras_psp.data import load
    from keras_psp.files import claim, written_aside
    from keras_psp.weights.locating import locate_model

    protocol = protocol_arguments(options)
    path, target = locate_model(options.model), options.save_as
    is_keras = isinstance(path, Path) and path.suffix == ".keras"
    if target is None and not is_keras:
        raise ValueError(
            f"{options.model} is not a .keras file, so the temperature can't be stored in it; give "
            "--save-as FILE.keras."
        )
    if target is not None and target.suffix != ".keras":
        raise ValueError(f"--save-as {target}: the file's name must end in .keras.")
    if target is not None and target.exists() and target != path:
        raise ValueError(f"--save-as {target} exists; choose another name.")
    target = Path(target or path)
    output = options.output or target.parent / "calibration"
    check_output(output)
    source = load(
        options.dataset, root=options.data, complete=not options.partial, **data_options(options)
    )
    for split in filter(None, (options.split, options.test_split)):
        source.count(split)  # raises for an unknown or empty split
    from keras_psp.evaluation.calibration import RESULTS, calibrate

    claim(output, RESULTS, contents="calibration")
    calibration = calibrate(
        source,
        options.model,
        split=options.split,
        test_split=options.test_split,
        pixels=options.pixels,
        seed=options.seed,
        limit=options.limit,
        progress=not options.quiet,
        **protocol,
    )
    calibration.print()
    calibration.save(output)
    print(output / "reliability.png")
    if is_keras:
        from keras_psp.weights.temperature import store_temperature

        store_temperature(path, calibration.temperature, target)
    else:
        from keras_psp.weights.opening import open_model

        model = open_model(options.model)
        model.temperature = calibration.temperature
        with written_aside(target) as draft:
            model.save(draft)
    print(f"temperature {calibration.temperature:.4f} stored in {target}")
    return 0
