"""Predicting on a cluster: workers load the model once, and answer in batches."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.delivery.predictor import Predictor
from headstart.features.engines import EnginePlan
from headstart.learning.classifier import Asked, Classifier, Prediction
from headstart.pictures.addresses import is_url
from headstart.scale.cluster import Cluster
from headstart.scale.embed import one_lane
from headstart.scale.lines import spread
from headstart.scale.shipping import ShippedBackbone, ship_backbone


@dataclass(frozen=True)
class AnswerWork:
    """Answering for picture files: the classifier, whose backbone comes along, and what predictions are to promise."""

    classifier: Classifier
    backbone: ShippedBackbone
    plan: EnginePlan
    asked: Asked

    def begin(self) -> Callable[[list[tuple[str, str]]], list[Prediction]]:
        """Load the engine; see `Work`. Items are the path as it is to be called, and where the worker finds it."""
        classifier = replace(self.classifier, backbone=self.backbone.here())
        predictor = Predictor(classifier, self.plan, self.plan.load(classifier.backbone))

        def work(pictures: list[tuple[str, str]]) -> list[Prediction]:
            said = predictor.stream((place for _, place in pictures), self.asked)
            return [replace(one, path=name) for one, (name, _) in zip(said, pictures, strict=True)]

        return work


def answers_on(
    cluster: Cluster, predictor: Predictor, pictures: Iterable[str | Path], asked: Asked
) -> Iterator[Prediction]:
    """`Predictor.stream` by the workers of `cluster`."""
    classifier = predictor.classifier
    work = AnswerWork(classifier, ship_backbone(classifier.backbone), one_lane(predictor.plan), asked)
    places = ((str(path), _place(str(path))) for path in pictures)
    return spread(cluster, work, places, predictor.plan.device)


def _place(path: str) -> str:
    """Where a worker, which is in another folder, finds the picture."""
    return path if is_url(path) else str(Path(path).absolute())
