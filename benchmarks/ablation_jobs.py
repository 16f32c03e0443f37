"""The trainings that tables of ablations ask for, and where each is kept."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ablation_tables import SETTINGS, TABLES, Row

from keras_psp.training.network import check_weights
from keras_psp.training.recipes import Recipe, recipe


@dataclass(frozen=True)
class Job:
    """A row with one seed.

    Attributes:
        table: the paper's number.
        name: with the network's.
        row: of the table.
        recipe: of its training.
        folder: of its training.
    """

    table: int
    name: str
    row: Row
    recipe: Recipe
    folder: Path

    @property
    def figures(self):
        """The file of what was measured."""
        return self.folder / f"{'multi' if self.row.multi_scale else 'single'}_scale.json"


def jobs(args):
    """All of them in the order of work, each recipe checked."""
    setting = SETTINGS[args.data]
    depths = tuple(args.depths or setting.depths)
    for seed in args.seeds:
        for number in args.table:
            for row in TABLES[number]:
                if row.depth >= len(depths):
                    continue
                fields = setting.fields | dict(args.set) | row.fields
                chosen = recipe(setting.recipe, **fields, backbone=depths[row.depth], seed=seed)
                check_weights(chosen)
                name = f"{chosen.backbone.replace('resnet', 'ResNet')} {row.name}"
                folder = args.output / args.data / folder_name(chosen, args)
                yield Job(number, name, row, chosen, folder)


def folder_name(chosen, args):
    """The same for the same training, another for any other; recipe.json in it says which."""
    fields = chosen.to_dict()
    for told_elsewhere in ("name", "origin", "seed"):
        del fields[told_elsewhere]
    if chosen.dataset == "scenes":
        fields |= {"pictures": args.pictures, "size": args.size}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return f"{chosen.backbone}-{digest[:12]}/seed{chosen.seed}"
