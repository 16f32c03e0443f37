"""The trainings behind the tables of ablations, and the folder of each."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ablation_tables import SETTINGS, TABLES, Row

from keras_psp.training.inputs import check_weights
from keras_psp.training.recipes import Recipe, recipe


@dataclass(frozen=True)
class Job:
    """A row of a table, with one seed.

    Attributes:
        table: number of the table in the paper.
        name: name of the row, preceded by that of the network.
        row: the row of the table.
        recipe: recipe of the training.
        folder: folder of the training.
    """

    table: int
    name: str
    row: Row
    recipe: Recipe
    folder: Path

    @property
    def figures(self):
        """The file of the measured figures."""
        return self.folder / f"{'multi' if self.row.multi_scale else 'single'}_scale.json"


def jobs(args):
    """All jobs in the order of execution, with checked recipes."""
    setting = SETTINGS[args.data]
    depths = tuple(args.depths or setting.depths)
    for seed in args.seeds:
        for number in args.table:
            for row in TABLES[number]:
                if row.depth >= len(depths) or (args.rows and row.name not in args.rows):
                    continue
                fields = setting.fields | dict(args.set) | row.fields
                chosen = recipe(setting.recipe, **fields, backbone=depths[row.depth], seed=seed)
                check_weights(chosen)
                name = f"{chosen.backbone.replace('resnet', 'ResNet')} {row.name}"
                folder = args.output / args.data / folder_name(chosen, args)
                yield Job(number, name, row, chosen, folder)


def folder_name(chosen, args):
    """A name that is unique to the training; recipe.json in the folder has the settings."""
    fields = chosen.to_dict()
    for ignored in ("name", "origin", "seed"):
        del fields[ignored]
    if chosen.dataset == "scenes":
        fields |= {"pictures": args.images, "size": args.size}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return f"{chosen.backbone}-{digest[:12]}/seed{chosen.seed}"
