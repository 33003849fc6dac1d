"""headstart: from a folder of labelled pictures to a classifier that its owner can trust.

    import headstart
    run = headstart.train("photos/")
    print(run.evaluation)
    model = headstart.load("runs/photos")
    model.predict(["new/1.jpg"])

Importing this package loads nothing else; each name is fetched from its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.contests import compare as compare
    from headstart.contests import compare_backbones as compare_backbones
    from headstart.delivery.artefact import load as load
    from headstart.delivery.artefact import save as save
    from headstart.delivery.comparing import compare_runs as compare_runs
    from headstart.delivery.comparing import read_runs as read_runs
    from headstart.delivery.export.exporting import export as export
    from headstart.delivery.export.pushing import push as push
    from headstart.delivery.predictor import Predictor as Predictor
    from headstart.delivery.run_folder import Run as Run
    from headstart.delivery.run_folder import TrainOptions as TrainOptions
    from headstart.errors import HeadstartError as HeadstartError
    from headstart.features.backbones import load_backbone as load_backbone
    from headstart.features.engines import plan_engine as plan_engine
    from headstart.features.extract import extract as extract
    from headstart.judging.evaluation import evaluate as evaluate
    from headstart.learning.classifier import Classifier as Classifier
    from headstart.learning.classifier import Prediction as Prediction
    from headstart.learning.examples import Examples as Examples
    from headstart.learning.finetune import Job as Job
    from headstart.learning.finetune import finetune as finetune
    from headstart.learning.head import fit_head as fit_head
    from headstart.learning.recipes import Recipe as Recipe
    from headstart.learning.recipes import load_recipe as load_recipe
    from headstart.learning.solve import solve as solve
    from headstart.pictures.dataset import Dataset as Dataset
    from headstart.pictures.dataset import Problem as Problem
    from headstart.pictures.dataset import Sample as Sample
    from headstart.pictures.duplicates import resolve as resolve
    from headstart.pictures.scan import scan as scan
    from headstart.pictures.split import split as split
    from headstart.workflow import check as check
    from headstart.workflow import measure as measure
    from headstart.workflow import train as train

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "learning.classifier",
    "Dataset": "pictures.dataset",
    "Examples": "learning.examples",
    "HeadstartError": "errors",
    "Job": "learning.finetune",
    "Prediction": "learning.classifier",
    "Predictor": "delivery.predictor",
    "Problem": "pictures.dataset",
    "Recipe": "learning.recipes",
    "Run": "delivery.run_folder",
    "Sample": "pictures.dataset",
    "TrainOptions": "delivery.run_folder",
    "check": "workflow",
    "compare": "contests",
    "compare_backbones": "contests",
    "compare_runs": "delivery.comparing",
    "evaluate": "judging.evaluation",
    "export": "delivery.export.exporting",
    "extract": "features.extract",
    "finetune": "learning.finetune",
    "fit_head": "learning.head",
    "load": "delivery.artefact",
    "load_recipe": "learning.recipes",
    "load_backbone": "features.backbones",
    "measure": "workflow",
    "plan_engine": "features.engines",
    "push": "delivery.export.pushing",
    "read_runs": "delivery.comparing",
    "resolve": "pictures.duplicates",
    "save": "delivery.artefact",
    "scan": "pictures.scan",
    "solve": "learning.solve",
    "split": "pictures.split",
    "train": "workflow",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'headstart' has no attribute '{name}'")
    return getattr(import_module(f"headstart.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
