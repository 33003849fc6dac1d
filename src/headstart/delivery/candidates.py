"""The candidates that a comparison trains: what they are called, how they differ, and which are there already."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from headstart.delivery import run_folder
from headstart.delivery.comparing import read_run
from headstart.delivery.run_folder import TrainOptions
from headstart.errors import ModelError, UsageError

if TYPE_CHECKING:
    from headstart.learning.recipes import Recipe

NOT_COMPARED = {"resume", "track"}
"""Options that do not change what comes out."""


def plan(options: TrainOptions, tunes: Sequence[str] = (), recipes: Sequence[str] = ()) -> dict[str, TrainOptions]:
    """The options of each candidate by its name: every recipe at every tune.

    A candidate is called by its recipe (a file by its stem) and its tune, as far as they were given: "all",
    "classic-frozen", "sgd-decay-all". With neither given, every tune is tried.

    Raises:
        UsageError: an unknown tune or recipe (the nearest is named), a recipe that cannot have that tune, two
            candidates of one name, or only one candidate.
    """
    from headstart.learning.recipes import Tune, load_recipe  # pydantic, only where recipes are read

    known: tuple[str, ...] = get_args(Tune)
    for word in tunes:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UsageError(f"unknown tune '{word}'{hint}. There are {', '.join(known)}.")
    recipes_tried: Sequence[str | None] = recipes or [None]
    tunes_tried: Sequence[str | None] = tunes or ([None] if recipes else known)
    candidates: dict[str, TrainOptions] = {}
    for recipe, tune in product(recipes_tried, tunes_tried):
        if recipe is not None:
            load_recipe(recipe, **({} if tune is None else {"tune": tune}))
        name = "-".join(([Path(recipe).stem] if recipe else []) + ([tune] if tune else []))
        if name in candidates:
            raise UsageError(f"two candidates would be called '{name}'; give each once, and files different names.")
        candidates[name] = replace(options, tune=tune, recipe=recipe)
    if len(candidates) < 2:
        raise UsageError(f"'{next(iter(candidates))}' is the only candidate; give two or more to compare.")
    return candidates


def is_complete(folder: Path, data: Path, options: TrainOptions, recipe: "Recipe | None" = None) -> bool:
    """Whether `folder` holds a whole run of `data` with the same options, which need not be made again.

    `recipe` is what the options' recipe holds now; a file that was changed since makes another candidate.
    """
    try:
        record = json.loads((folder / run_folder.RUN).read_text("utf-8"))
        former, source = dict(record["options"]), record["data"]
        of_recipe = record["computed"].get("finetune", {}).get("recipe")
    except (OSError, ValueError, KeyError, TypeError):
        return False
    now = options.to_json()
    if source != str(data) or any(former.get(key) != now[key] for key in now.keys() - NOT_COMPARED):
        return False
    if of_recipe != (None if recipe is None else recipe.model_dump(mode="json")):
        return False
    try:
        read_run(folder, folder.name)
    except ModelError:
        return False
    return True
