"""Exports of real runs, whole and broken on purpose, answered by their own runtimes from the files alone."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper

from headstart.cli import app
from headstart.delivery import artefact
from headstart.delivery.export import exporting, formats, int8_format, openvino_format, telling
from headstart.delivery.export.exporting import export
from headstart.delivery.export.road import pixels_of
from headstart.delivery.export.source import Source
from headstart.delivery.run_folder import TrainOptions
from headstart.errors import DataError, ExportError, StorageError, UsageError
from headstart.features.openvino_engine import the_core
from headstart.workflow import train

from . import tiny

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def pictures(tmp_path):
    """New pictures of both classes, among them an upright one that is stored lying down, and a transparent one."""
    tiny.class_folders(tmp_path / "new", 8)
    paths = sorted((tmp_path / "new").rglob("*.png"))
    from PIL import Image

    lying, clear = tmp_path / "lying.jpg", tmp_path / "clear.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(paths[0]).save(lying, exif=exif, quality=95)
    drawn = Image.open(paths[-1]).convert("RGBA")
    drawn.putalpha(90)
    drawn.save(clear)
    return [*paths, lying, clear]


@pytest.fixture(scope="session")
def torch_run(tmp_path_factory):
    """A run on a network that timm can make again, small and untrained."""
    folder = tmp_path_factory.mktemp("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        options = TrainOptions(backbone="test_vit", weights=Path("none"), device="cpu", fit="squish")
        train(tiny.class_folders(folder / "photos", 12), folder / "run", options)
    return folder / "run"


def said_by(script, place, paths):
    """What an example prints: for each path its class and probability. It runs without headstart's sources."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(EXAMPLES / script), str(place), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == list(map(str, paths))
    return {path: (label, float(probability)) for path, label, probability in rows}


def held_out_of(run):
    rows = (run / "split.csv").read_text("utf-8").splitlines()
    return [row.split(",")[0] for row in rows if ",test," in row]


def changed(form, change):
    """The format whose files are broken by `change` as soon as they are written."""

    def write(*given):
        form.write(*given)
        change(given[1])

    return replace(form, write=write)


def broken(monkeypatch, name, change):
    monkeypatch.setitem(formats.FORMATS, name, changed(formats.FORMATS[name], change))


def on_graph(change):
    """`change` of the ONNX model, as a change of the folder that holds it."""

    def in_folder(folder):
        model = onnx.load(folder / "model.onnx")
        change(model.graph)
        onnx.save(model, folder / "model.onnx")

    return in_folder


def other_mean(graph):
    for tensor in graph.initializer:
        if tensor.name == "mean":
            values = numpy_helper.to_array(tensor) * np.float32(0.9)
            tensor.CopyFrom(numpy_helper.from_array(values, "mean"))


def swapped_channels(graph):
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "order"))
    graph.node.insert(0, helper.make_node("Gather", ["pixels", "order"], ["turned"], axis=3))
    for node in list(graph.node)[1:]:
        for place, name in enumerate(node.input):
            if name == "pixels":
                node.input[place] = "turned"


def no_softmax(graph):
    for node in graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Identity"
            del node.attribute[:]


def no_calibration(graph):
    """Twice the temperature: every class stays what it was, every probability changes."""
    for tensor in graph.initializer:
        if tensor.name.startswith("headstart."):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(0.5), tensor.name))


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_an_export_answers_as_predict_does(name, raw, tiny_run, tmp_path):
    place = tmp_path / "out"
    done = export(tiny_run, name, place, raw=raw)
    record = json.loads((place / "export.json").read_text())
    assert record == json.loads(json.dumps(done.record))
    assert record["raw"] is raw
    assert record["proof"]["n"] == done.found.proof.n == len(held_out_of(tiny_run))
    assert record["proof"]["agreement"]["value"] == 1
    assert record["proof"]["change"]["largest"] < 1e-4
    assert record["proof"]["accuracy"]["p"] == 1
    assert {one.name for one in place.iterdir()} == {*record["files"], "export.json"}
    assert record["input"]["shape"] == (["n", 3, 32, 32] if raw else ["n", 32, 32, 3])
    assert record["speed"]["export"]["pictures_per_second"] > 0
    assert record["megabytes"]["export"] > 0


def test_an_onnx_file_stands_alone(tiny_run, tmp_path):
    import onnxruntime

    export(tiny_run, "onnx", tmp_path / "a.onnx")
    assert sorted(one.name for one in tmp_path.glob("a.*")) == ["a.onnx", "a.onnx.export.json"]
    assert list(json.loads((tmp_path / "a.onnx.export.json").read_text())["files"]) == ["a.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["classes"] == ["amber", "blue"]
    assert facts["preprocessing"]["interpolation"] == "bicubic"
    for n in (1, 5):
        pixels = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        (probabilities,) = session.run(None, {"pixels": pixels})
        predictor = artefact.load(tiny_run, "cpu", "f32")
        assert probabilities == pytest.approx(
            predictor.classifier.probabilities(predictor.engine.embed(pixels)), abs=1e-5
        )


def test_a_raw_file_takes_normalised_pictures_and_gives_logits(tiny_run, tmp_path):
    import onnxruntime

    export(tiny_run, "onnx", tmp_path / "raw.onnx", raw=True)
    session = onnxruntime.InferenceSession(tmp_path / "raw.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in (*session.get_inputs(), *session.get_outputs())] == ["normalised", "logits"]
    predictor = artefact.load(tiny_run, "cpu", "f32")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    normalised = ((pixels / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2).astype(np.float32)
    (logits,) = session.run(None, {"normalised": normalised})
    classifier = predictor.classifier
    expected = predictor.engine.embed(pixels) @ classifier.weight.T + classifier.bias
    assert logits == pytest.approx(expected, abs=1e-4)


def test_openvino_files_take_batches_and_carry_their_facts(tiny_run, tmp_path):
    export(tiny_run, "openvino", tmp_path / "ir")
    model = the_core().read_model(tmp_path / "ir" / "model.xml")
    assert json.loads(model.get_rt_info(["headstart", "classes"]).astype(str)) == ["amber", "blue"]
    compiled = the_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    predictor = artefact.load(tiny_run, "cpu", "f32")
    expected = predictor.classifier.probabilities(predictor.engine.embed(pixels))
    assert compiled(pixels)["probabilities"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_int8_is_calibrated_on_training_pictures_and_keeps_its_facts(tiny_run, pictures, tmp_path, monkeypatch):
    pytest.importorskip("nncf", reason="headstart[int8] is not installed")
    seen, home = [], tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(
        exporting.pictures,
        "pixels",
        lambda shelf, _, plain=exporting.pictures.pixels: seen.append(shelf) or plain(shelf, _),
    )
    done = export(tiny_run, "openvino-int8", tmp_path / "int8", agreement=0.5)
    parts = dict(row.split(",")[1::2] for row in (tiny_run / "split.csv").read_text().splitlines()[1:])
    assert len(seen[0].samples) == done.record["calibrated_on"] == sum(part != "test" for part in parts.values())
    assert all(parts[sample.digest] != "test" for sample in seen[0].samples)
    assert sorted(one.name for one in (tmp_path / "int8").iterdir()) == ["export.json", "model.bin", "model.xml"]
    model = the_core().read_model(tmp_path / "int8" / "model.xml")
    assert any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
    assert json.loads(model.get_rt_info(["headstart", "classes"]).astype(str)) == ["amber", "blue"]
    assert model.input(0).partial_shape.is_static
    assert done.record["input"]["shape"][0] == 1
    assert 0 < done.found.proof.mean < 0.05
    assert not (home / "intel").exists()  # where openvino_telemetry would keep who we are
    answering = openvino_format.load(tmp_path / "int8", done.record)
    for path, (label, probability) in said_by("with_openvino.py", tmp_path / "int8", pictures).items():
        (own,) = answering(pixels_of(Path(path), done.record["preprocessing"])[None])
        assert (label, probability) == (done.record["classes"][own.argmax()], pytest.approx(own.max(), abs=1e-4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_mean, "of the same pixels a probability differs"),
        (swapped_channels, "of the same pixels a probability differs"),
        (no_softmax, "are no probabilities"),
        (no_calibration, "of the same pixels a probability differs"),
    ],
)
def test_a_broken_onnx_file_is_refused(change, reason, tiny_run, tmp_path, monkeypatch):
    broken(monkeypatch, "onnx", on_graph(change))
    with pytest.raises(ExportError, match=reason):
        export(tiny_run, "onnx", tmp_path / "out", agreement=0.01)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_broken_openvino_file_is_refused(tiny_run, tmp_path, monkeypatch):
    def swapped(folder):
        import openvino

        source = onnx.load(tiny_run / "model" / "model.onnx")
        swapped_channels(source.graph)
        model = the_core().read_model(source.SerializeToString())
        model = openvino.Model([model.output("probabilities")], model.get_parameters(), "swapped")
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)

    broken(monkeypatch, "openvino", swapped)
    with pytest.raises(ExportError, match="top-1 agreement"):
        export(tiny_run, "openvino", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_preprocessing_in_the_record_is_refused(tiny_run, tmp_path, monkeypatch):
    """The graph is right, but whoever follows the record would feed it something else."""
    plain = exporting.Source.facts

    def turned(self):
        facts = plain(self)
        facts["preprocessing"]["normalise"] = {"mean": [0.9, 0.5, 0.1], "std": [0.5, 0.5, 0.5]}
        return facts

    monkeypatch.setattr(exporting.Source, "facts", turned)
    with pytest.raises(ExportError, match="not handed over"):
        export(tiny_run, "onnx", tmp_path / "out", raw=True)


def test_a_file_that_its_runtime_cannot_run_is_refused(tiny_run, tmp_path, monkeypatch):
    def unknown(graph):
        graph.node[-1].op_type = "Nonsense"

    broken(monkeypatch, "onnx", on_graph(unknown))
    with pytest.raises(ExportError, match="ONNX Runtime cannot run"):
        export(tiny_run, "onnx", tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_the_head_of_a_rounded_network_is_centred(tiny_run, tmp_path):
    """What int8 does to features, done to a kernel: its values in steps, always downwards."""
    predictor = artefact.load(tiny_run, "cpu", "f32")
    openvino_format.write(Source(predictor.classifier), tmp_path)
    source = onnx.load(tiny_run / "model" / "model.onnx")
    for tensor in source.graph.initializer:
        if tensor.name == "kernel":
            tensor.CopyFrom(numpy_helper.from_array(np.floor(8 * numpy_helper.to_array(tensor)) / 8, "kernel"))
    core, model = the_core(), int8_format._read(the_core(), tmp_path / "model.xml")
    rounded = core.read_model(source.SerializeToString())
    rounded.reshape([1, 32, 32, 3])
    inputs = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    wanted = int8_format._mean_logits(core, model, inputs)
    assert np.abs(int8_format._mean_logits(core, rounded, inputs) - wanted).max() > 0.01
    int8_format.centre(core, model, rounded, inputs)
    assert int8_format._mean_logits(core, rounded, inputs) == pytest.approx(wanted, abs=1e-4)


def test_a_refusal_names_the_worst_pictures_and_leaves_the_former_export(tiny_run, tmp_path, monkeypatch):
    place = tmp_path / "out"
    export(tiny_run, "onnx", place)
    before = (place / "model.onnx").read_bytes()
    broken(monkeypatch, "onnx", on_graph(swapped_channels))
    told = CliRunner().invoke(app, ["export", str(tiny_run), "--to", "onnx", "-o", str(place)])
    assert isinstance(told.exception, ExportError)
    message = str(told.exception)
    assert told.exception.exit_status == 1
    assert "0.99 was asked for" in message
    named = [line for line in message.splitlines() if ".png (" in line]
    assert 1 <= len(named) <= 5
    assert all(": model " in line and ", export " in line for line in named)
    assert (place / "model.onnx").read_bytes() == before


def test_an_earlier_export_is_replaced_and_nothing_else(tiny_run, tmp_path):
    place = tmp_path / "out"
    export(tiny_run, "onnx", place)
    export(tiny_run, "openvino", place)
    assert sorted(one.name for one in place.iterdir()) == ["export.json", "model.bin", "model.xml"]
    (place / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"notes\.txt"):
        export(tiny_run, "onnx", place)
    (tmp_path / "a.onnx").write_text("a stranger")
    with pytest.raises(StorageError, match="not an earlier export"):
        export(tiny_run, "onnx", tmp_path / "a.onnx")
    with pytest.raises(StorageError, match="not an earlier export"):
        export(tiny_run, "onnx", tiny_run)
    assert (tmp_path / "a.onnx").read_text() == "a stranger"


def test_what_is_asked_wrongly_is_refused_before_any_work(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(artefact, "load", lambda *_: pytest.fail("work was begun"))
    for given, named in [("a.pt2", r"\*\.onnx"), ("a.xml", "a folder")]:
        with pytest.raises(UsageError, match=named):
            export(tiny_run, "onnx", tmp_path / given)
    with pytest.raises(UsageError, match="above 0"):
        export(tiny_run, "onnx", tmp_path / "out", agreement=1.5)
    with pytest.raises(UsageError, match="Known: onnx"):
        export(tiny_run, "paper", tmp_path / "out")
    with pytest.raises(ExportError, match="older torch"):
        export(tiny_run, "litert", tmp_path / "out")
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ExportError, match=r"pip install 'headstart\[int8\]'"):
        export(tiny_run, "openvino-int8", tmp_path / "out")


def test_a_model_without_its_run_needs_pictures(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "alone")
    with pytest.raises(DataError, match="--data"):
        export(tmp_path / "alone", "onnx", tmp_path / "out")
    data = tiny.class_folders(tmp_path / "others", 25)
    for index in range(5):
        tiny.draw(data / "amber" / f"new{index}.png", tiny.HUES["amber"], 5000 + index)
    with pytest.raises(DataError, match="learnt from"):
        export(tmp_path / "alone", "onnx", tmp_path / "out", data=data)
    shutil.rmtree(data)
    for seed in range(4):
        tiny.draw(data / "amber" / f"{seed}.png", tiny.HUES["amber"], 7000 + seed)
        tiny.draw(data / "blue" / f"{seed}.png", tiny.HUES["blue"], 8000 + seed)
    done = export(tmp_path / "alone", "onnx", tmp_path / "out", data=data)
    assert (done.found.proof.n, done.record["proof"]["pictures"]) == (8, f"labelled in {data}")
    (data / "amber").rename(data / "ocher")
    with pytest.raises(DataError, match="ocher"):
        export(tmp_path / "alone", "onnx", tmp_path / "out", data=data)


def test_pictures_that_are_gone_or_changed_are_left_out_and_counted(tmp_path):
    options = TrainOptions(backbone="tiny", weights=tiny.install(tmp_path), device="cpu")
    data = tiny.class_folders(tmp_path / "photos")
    train(data, tmp_path / "run", options)
    held_out = held_out_of(tmp_path / "run")
    (data / held_out[0]).unlink()
    tiny.draw(data / held_out[1], (1, 2, 3), 99)
    done = export(tmp_path / "run", "onnx", tmp_path / "out")
    assert set(done.found.proof.left_out) == set(held_out[:2])
    assert done.found.proof.n == len(held_out) - 2
    assert any("2 of the pictures" in line for line in telling.lines(done))
    shutil.move(data, tmp_path / "elsewhere")
    with pytest.raises(DataError, match="--data"):
        export(tmp_path / "run", "onnx", tmp_path / "out")


def test_the_command_prints_a_table(tiny_run, tmp_path):
    told = CliRunner().invoke(app, ["export", str(tiny_run), "--to", "onnx", "-o", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    assert "top-1 agreement  1.000" in told.output
    for line in ("accuracy  ", "one picture  ", "many at once  ", "size  ", "saved in "):
        assert line in told.output
    assert "prove little" in told.output


def test_the_command_names_the_formats_that_there_are():
    from headstart.commands.export import NAMES

    assert list(NAMES) == list(formats.FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("raw", [False, True])
def test_a_torch_program_answers_alone(raw, torch_run, tmp_path):
    done = export(torch_run, "torch", tmp_path / "out", raw=raw)
    assert done.found.proof.agreement.value == 1
    assert done.found.proof.largest_same < 1e-4
    assert done.record["output"]["name"] == ("logits" if raw else "probabilities")


@pytest.fixture(scope="session")
def tuned_run(tmp_path_factory):
    """A run whose network was trained by epochs, all of it, and kept."""
    folder = tmp_path_factory.mktemp("tuned")
    recipe = folder / "moving.toml"
    recipe.write_text('base = "classic-finetune"\nbackbone = "test_resnet"\nweights = "none"\nepochs = 3\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        done = train(
            tiny.class_folders(folder / "photos", 12), folder / "run", TrainOptions(recipe=str(recipe), device="cpu")
        )
    assert done.kept_recipe is not None
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", ["onnx", "openvino", "torch"])
def test_a_fine_tuned_network_is_exported_as_it_became(name, raw, tuned_run, tmp_path):
    done = export(tuned_run, name, tmp_path / "out", raw=raw)
    assert done.found.proof.agreement.value == 1
    assert done.found.proof.largest_same < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("raw", [False, True])
def test_an_executorch_program_answers_alone(raw, tuned_run, tmp_path):
    pytest.importorskip("executorch", reason="executorch is not installed: pip install 'headstart[executorch]'")
    done = export(tuned_run, "executorch", tmp_path / "out", raw=raw)
    assert done.found.proof.agreement.value == 1
    assert done.found.proof.largest_same < 1e-4


@pytest.mark.slow
def test_what_executorch_has_no_operator_for_is_said(torch_run, tmp_path):
    pytest.importorskip("executorch", reason="executorch is not installed: pip install 'headstart[executorch]'")
    with pytest.raises(ExportError, match="_upsample_bicubic2d_aa"):
        export(torch_run, "executorch", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("with_onnx_runtime.py", "onnx"),
        ("with_openvino.py", "openvino"),
        pytest.param("with_torch.py", "torch", marks=pytest.mark.slow),
    ],
)
def test_the_examples_say_what_predict_says(script, name, request, pictures, tmp_path):
    run = request.getfixturevalue("torch_run" if name == "torch" else "tiny_run")
    export(run, name, tmp_path / "out")
    said = said_by(script, tmp_path / "out", pictures)
    for expected in artefact.load(run, "cpu", "f32").predict(pictures):
        assert said[expected.path] == (expected.label, pytest.approx(expected.probability, abs=1e-3))


def test_the_examples_do_not_use_headstart():
    for script in EXAMPLES.glob("with_*.py"):
        assert "import headstart" not in script.read_text()
        assert "from headstart" not in script.read_text()


def test_the_runtime_of_a_file_compiles_it_as_it_is(tiny_run, tmp_path):
    export(tiny_run, "openvino", tmp_path / "ir")
    answering = openvino_format.load(tmp_path / "ir", {})
    pixels = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    together = answering(pixels)
    assert together.tolist() == np.concatenate([answering(one[None]) for one in pixels]).tolist()
