import json
import math

import numpy as np
import onnx
import pytest
from PIL import Image

from headstart.delivery import artefact
from headstart.delivery.graph import with_head
from headstart.errors import DataError, ModelError
from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import embed_picture
from headstart.features.preprocess import Preprocess
from headstart.learning.classifier import Asked, Classifier
from headstart.learning.conformal import Abstention, PredictionSets
from headstart.learning.novelty import Novelty
from tests import tiny

SETS = PredictionSets(
    threshold=(0.4, 0.3, 0.2, 0.1),
    adaptive=(0.0, 0.5, 0.9, math.inf),
    per_class=((0.4, 0.4, 0.4), (0.3, 0.2, 0.1), (0.2, 0.1, 0.05), (0.0, 0.0, 0.0)),
)


@pytest.fixture
def classifier(tmp_path):
    backbone = load_backbone("tiny", tiny.install(tmp_path))
    random = np.random.default_rng(0)
    return Classifier(
        backbone=backbone,
        classes=("é 日本", "b<script>", "c"),
        weight=random.normal(size=(3, tiny.WIDTH)).astype(np.float32),
        bias=random.normal(size=3).astype(np.float32),
        novelty=Novelty(random.normal(size=(9, tiny.WIDTH)).astype(np.float16), 2.0, 0.02),
        sets=SETS,
        abstention=Abstention((0.5, 0.6, 0.999, None)),
        trained_on=np.array([5, 2**63], dtype=np.uint64),
        precision="f32",
    )


@pytest.fixture
def folder(classifier, tmp_path):
    place = tmp_path / "run" / "model"
    place.mkdir(parents=True)
    plan = plan_engine("cpu", "f32")
    pattern = embed_picture(artefact.check_pattern(classifier.backbone.preprocess), classifier.backbone, plan)
    artefact.save(place, classifier, pattern, "# card")
    return place


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{seed}.png" for seed in range(12)]
    for seed, path in enumerate(paths):
        tiny.draw(path, (20 * seed, 100, 255 - 20 * seed), seed)
    return paths


def test_what_is_loaded_is_what_was_saved(folder, classifier):
    loaded = artefact.load(folder.parent, "cpu", "f32").classifier
    assert loaded.classes == classifier.classes
    assert loaded.weight.tolist() == classifier.weight.tolist()
    assert loaded.novelty.references.tolist() == classifier.novelty.references.tolist()
    assert (loaded.novelty.radius, loaded.novelty.false_reject_rate, loaded.precision) == (2.0, 0.02, "f32")
    assert (loaded.sets, loaded.abstention) == (SETS, classifier.abstention)
    assert loaded.backbone.preprocess == classifier.backbone.preprocess
    assert loaded.has_seen(f"{5:016x}" + "0" * 48)
    assert not loaded.has_seen(f"{6:016x}" + "0" * 48)


def test_the_onnx_file_gives_the_same_probabilities(folder, pictures):
    onnxruntime = pytest.importorskip("onnxruntime")
    predictor = artefact.load(folder, "cpu", "f32")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(predictor.classes)
    preprocess = predictor.classifier.backbone.preprocess
    pixels = np.stack([preprocess.apply(np.asarray(Image.open(path))) for path in pictures])
    probabilities, logits, features = session.run(None, {"pixels": pixels})
    for said, row in zip(predictor.predict(pictures), probabilities, strict=True):
        assert dict(said.ranking) == pytest.approx(dict(zip(predictor.classes, row, strict=True)), abs=1e-5)
    assert features == pytest.approx(predictor.features(pictures), abs=1e-5)
    assert logits.shape == (12, 3)
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))


def test_predictions_keep_the_order_and_the_rules(folder, pictures):
    for said, path in zip(artefact.load(folder).predict(pictures), pictures, strict=True):
        assert said.path == str(path)
        assert said.label == said.ranking[0][0]
        values = [probability for _, probability in said.ranking]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1)
        assert said.set == tuple(name for name, value in said.ranking if value >= 0.2)
        assert said.is_none_of_these == (said.novelty > 1)


def test_predictions_promise_what_was_asked(folder, pictures):
    predictor = artefact.load(folder)
    asked = Asked("per_class", 0.9, wanted=0.98)
    for said, plain in zip(predictor.predict(pictures, asked), predictor.predict(pictures), strict=True):
        floors = dict(zip(predictor.classes, SETS.per_class[1], strict=True))
        assert set(said.set) == {name for name, p in said.ranking if p >= floors[name]} | {said.label}
        assert said.is_unsure == (said.probability < 0.999)
        assert plain.is_unsure is None
        assert said.ranking == plain.ranking


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prediction_sets", []),
        ("prediction_sets", [{"coverage": 0.8}]),
        ("abstain", [{"wanted": 0.9, "threshold": 0.5}]),
        ("abstain", "no table"),
        ("none_of_these", {"radius": 0.0, "false_reject_rate": 0.01}),
        ("none_of_these", {"radius": 1.0, "false_reject_rate": 7}),
        ("none_of_these", {"radius": 1.0}),
        ("abstain", None),
    ],
)
def test_a_model_with_damaged_tables_is_refused(folder, key, value):
    path = folder / "headstart.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, key: value}))
    with pytest.raises(ModelError, match="is damaged"):
        artefact.load(folder)
    del record[key]
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError, match=f"has no {key}"):
        artefact.load(folder)


def test_unreadable_pictures_are_answered_with_an_error(folder, pictures, tmp_path):
    predictor = artefact.load(folder)
    said = predictor.predict([pictures[0], tmp_path / "gone.png", pictures[1]])
    assert [one.error is None for one in said] == [True, False, True]
    with pytest.raises(DataError, match="gone"):
        predictor.features([tmp_path / "gone.png"])
    assert predictor.predict([]) == []
    assert predictor.features([]).shape == (0, tiny.WIDTH)


def test_a_model_that_answers_otherwise_is_refused(folder):
    path = folder / "headstart.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "self_check": [1.0, 0.0, 0.0]}))
    with pytest.raises(ModelError, match="answers otherwise"):
        artefact.load(folder)


def test_the_head_is_put_on_the_graph_without_changing_the_features(classifier):
    graph = with_head(classifier.backbone.graph.read_bytes(), classifier.weight, classifier.bias, classifier.classes)
    model = onnx.load_from_string(graph)
    assert [output.name for output in model.graph.output] == ["probabilities", "logits", "features"]
    assert graph == with_head(
        classifier.backbone.graph.read_bytes(), classifier.weight, classifier.bias, classifier.classes
    )


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (224, 235), (260, 292), (299, 299), (160, 168), (224, 248)])
def test_timm_computes_our_resize_from_the_crop_fraction(size, resize):
    assert math.floor(size / artefact._crop_fraction(size, resize)) == resize


def test_the_check_pattern_is_fixed():
    pattern = artefact.check_pattern(Preprocess(4, 5, 4, "bicubic", (0.5,) * 3, (0.5,) * 3))
    assert pattern.shape == (4, 5, 3)
    assert pattern[3, 4].tolist() == [26, 25, 24]
