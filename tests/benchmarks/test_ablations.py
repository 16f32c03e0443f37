"""Tests of the ablations script without training."""

import argparse
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def work(data="scenes", table=(1, 2, 4), seeds=(0,), size=96, **options):
    from ablation_jobs import jobs

    arguments = {"depths": None, "set": [], "output": Path("runs"), "images": 1200}
    arguments |= {"rows": None, **options}
    return list(
        jobs(argparse.Namespace(data=data, table=table, seeds=seeds, size=size, **arguments))
    )


@pytest.mark.parametrize(
    "data", ["scenes", "scenes_lite0", "camvid", "camvid_lite0", "camvid_half", "ade20k"]
)
def test_every_row_has_a_valid_recipe_and_folder(data):
    all_jobs = work(data, table=(1, 2, 3, 4), seeds=(0, 1))
    assert {job.table for job in all_jobs} == {1, 2, 3, 4}
    assert all(len(part) < 60 for job in all_jobs for part in job.folder.parts)


def test_equal_trainings_share_a_folder_and_others_do_not():
    all_jobs = work()
    by_name = {(job.table, job.name.split(" ", 1)[1]): job.folder for job in all_jobs}
    # All three are the network with an auxiliary loss of weight 0.4 and without a pyramid.
    assert by_name[1, "Baseline"] == by_name[2, "weight 0.4"] == by_name[4, "DA+AL"]
    assert by_name[4, "DA"] == by_name[2, "without AL"] != by_name[4, "Baseline"]
    assert by_name[1, "B1236+AVE+DR"] == by_name[4, "DA+AL+PSP"]
    assert len({job.folder for job in work(table=(1,))}) == 7
    recipes = {}
    for job in [*all_jobs, *work(seeds=(1,)), *work(set=[("epochs", 9)])]:
        assert recipes.setdefault(job.folder, job.recipe) == job.recipe
    before = {job.folder for job in work(table=(1,))}
    for change in ({"set": [("epochs", 9)]}, {"size": 64}, {"seeds": (1,)}):
        assert before.isdisjoint(job.folder for job in work(table=(1,), **change))


def test_rows_are_chosen_by_name():
    names = "Baseline", "B1+MAX"
    chosen = work(table=(1,), rows=names)
    assert [job.name for job in chosen] == [f"ResNet18 {name}" for name in names]
    assert {job.folder for job in chosen} < {job.folder for job in work(table=(1,))}


def test_single_and_multi_scale_figures_are_separate_files():
    one, several = [job for job in work(table=(4,)) if "deepest" in job.name]
    assert one.folder == several.folder and one.figures != several.figures


def test_guessing_has_a_balanced_accuracy_of_one_half():
    from ablations import context_figures

    from keras_psp.data.scenes.classes import CLASS_NAMES, CONTEXT_CLASSES

    boat, car, building, skyscraper = map(CLASS_NAMES.index, CONTEXT_CLASSES)
    confusion = np.zeros((14, 14), int)
    # A network that calls 90 % of all hulls a car, where cars have three times as many pixels.
    confusion[boat, [boat, car]] = 10, 90
    confusion[car, [boat, car]] = 30, 270
    confusion[building, [building, skyscraper]] = 80, 20
    confusion[skyscraper, [building, skyscraper]] = 40, 60
    figures = context_figures(confusion, np.full(14, 0.5))
    assert figures["context IoU"] == 0.5
    assert figures["context accuracy"] == pytest.approx((280 / 400 + 140 / 200) / 2)
    assert figures["balanced context accuracy"] == pytest.approx((0.5 + 0.7) / 2)


def test_gains_are_paired_by_seed_with_the_first_row(capsys, tmp_path):
    from ablation_report import draw, print_table

    def runs(**by_seed):
        return {int(seed[1]): {"mean IoU": value} for seed, value in by_seed.items()}

    rows = {
        "Baseline": ((37.0, 78.0), runs(s0=0.5, s1=0.6)),
        "B1": ((40.0, 79.0), runs(s1=0.62, s2=0.7)),
        "B1236": ((41.0, 80.0), {}),
    }
    print_table(1, rows)
    *_, baseline, b1 = capsys.readouterr().out.splitlines()
    assert baseline == "| Baseline | 2 | 55.00 ± 7.07 |  | 37.00 | 78.00 |  |"
    assert b1 == "| B1 | 2 | 66.00 ± 5.66 | 2.00 | 40.00 | 79.00 | +3.00 |"
    draw(1, rows, tmp_path / "table.png")
    assert (tmp_path / "table.png").exists()
    # Without figures of the first row there are no gains.
    rows["Baseline"] = (rows["Baseline"][0], {})
    print_table(1, rows)
    assert capsys.readouterr().out.splitlines()[-1].startswith("| B1 | 2 | 66.00 ± 5.66 |  |")
    draw(1, rows, tmp_path / "nothing.png")
    assert not (tmp_path / "nothing.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "seed=3"], "--set seed has no effect; use --seeds."),
        (["--set", "backbone=resnet34"], "--set backbone has no effect; use --depths."),
        (
            ["--set", "pooling=max"],
            "--set pooling has no effect because",
        ),
        (
            ["--data", "camvid", "--size", "64"],
            "--size applies only to generated scenes",
        ),
        (["--rows", "B1+MIN"], "--rows 'B1+MIN' is in none of the tables; they have ['B1+AVE'"),
        (["--root", "here"], "--root has no effect on generated scenes."),
        (["--data", "camvid", "--depths", "resnet269"], "exist for depths 18, 34, 50, 101, 152"),
    ],
)
def test_argument_without_effect_is_an_error(arguments, message, monkeypatch, capsys):
    import ablations

    monkeypatch.setattr(sys, "argv", ["ablations.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        ablations.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to forward")
@pytest.mark.parametrize("by", ["terminate", "kill"])
def test_child_process_ends_with_its_parent(by, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys, time
            from pathlib import Path
            sys.path.insert(0, sys.argv[1])
            from measure import in_a_process

            def work(path):
                path.write_text(str(os.getpid()))
                time.sleep(600)

            if __name__ == "__main__":
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
                in_a_process(work, Path(sys.argv[2]))
            """
        )
    )
    pid_file = tmp_path / "process"
    process = subprocess.Popen([sys.executable, str(script), str(FOLDER), str(pid_file)])
    try:
        _until(lambda: pid_file.exists() and pid_file.read_text())
        getattr(process, by)()
        assert process.wait(60) == (143 if by == "terminate" else -9)
        _until(lambda: not _alive(int(pid_file.read_text())))
    finally:
        process.kill()


def _until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def _alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{number}/stat")  # a zombie has ended
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
