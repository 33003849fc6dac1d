import threading

import numpy as np
import pytest
from PIL import Image

from headstart.features import extract as room
from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import embed_picture, extract, prepare, recipe
from headstart.features.store import Store, stored_recipes
from headstart.parallel import core_count
from headstart.pictures.scan import scan
from tests import tiny


@pytest.fixture
def backbone(tmp_path):
    return load_backbone("tiny", tiny.install(tmp_path))


@pytest.fixture
def folder(tmp_path):
    return tiny.class_folders(tmp_path / "photos", each=15)


@pytest.fixture
def plan():
    return plan_engine("cpu", "f32")


def by_path(dataset, features):
    rows = features.rows(dataset.samples)
    return {sample.path: features.vectors[row].tolist() for sample, row in zip(dataset.samples, rows, strict=True)}


def test_every_picture_gets_a_vector_of_its_own(folder, backbone, plan):
    dataset, features = extract(scan(folder), backbone, plan)
    assert features.vectors.shape == (30, tiny.WIDTH)
    assert features.embedded == 30
    assert all(len(sample.digest) == 64 for sample in dataset.samples)
    assert len({tuple(vector) for vector in by_path(dataset, features).values()}) == 30


def test_looks_come_row_by_row_and_from_the_store_alike(folder, backbone, plan, monkeypatch):
    tiny.draw(folder / "amber" / "wide.png", (200, 140, 40), 99, (90, 30))
    dataset, features = extract(scan(folder), backbone, plan)
    looks = features.looks
    assert looks.prints.shape == (31, 32, 32)
    wide = next(sample for sample in dataset.samples if sample.path == "amber/wide.png")
    row = features.rows([wide])[0]
    assert (looks.width[row], looks.height[row]) == (90, 30)
    assert looks.file_bytes[row] == (folder / "amber" / "wide.png").stat().st_size
    expected = np.asarray(Image.open(folder / "amber" / "wide.png").convert("L")).mean() / 255
    assert looks.brightness[row] == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(room, "look", lambda *_: pytest.fail("looks were measured again"))
    again = extract(scan(folder), backbone, plan)[1].looks
    for name, column in vars(looks).items():
        np.testing.assert_array_equal(getattr(again, name), column)


def test_a_vector_stored_without_looks_is_embedded_again(folder, backbone, plan):
    digest = extract(scan(folder), backbone, plan)[1].digests[7]
    with Store(recipe(backbone, plan), tiny.WIDTH) as store:
        store.put(digest, np.zeros(tiny.WIDTH, np.float32), {})
    _, features = extract(scan(folder), backbone, plan)
    assert features.embedded == 1
    assert features.vectors[7].any()


def test_predicting_measures_no_looks(folder, backbone, monkeypatch):
    monkeypatch.setattr(room, "look", lambda *_: pytest.fail("looks were measured"))
    items = list(prepare(scan(folder).samples, folder, backbone.preprocess))
    assert all(item.pixels is not None and item.look is None for item in items)


def test_a_second_time_nothing_is_embedded_and_no_engine_is_loaded(folder, backbone, plan, monkeypatch):
    first = by_path(*extract(scan(folder), backbone, plan))
    monkeypatch.setattr(type(plan), "load", lambda *_: pytest.fail("the engine was loaded"))
    dataset, features = extract(scan(folder), backbone, plan)
    assert features.embedded == 0
    assert by_path(dataset, features) == first


def test_renaming_moving_and_relabelling_embed_nothing(folder, backbone, plan):
    extract(scan(folder), backbone, plan)
    (folder / "amber" / "00.png").rename(folder / "blue" / "renamed.png")
    tiny.draw(folder / "amber" / "new.png", (1, 2, 3), 99)
    _, features = extract(scan(folder), backbone, plan)
    assert features.embedded == 1


def test_another_fit_embeds_anew(folder, backbone, plan):
    from dataclasses import replace

    extract(scan(folder), backbone, plan)
    squished = replace(backbone, preprocess=backbone.preprocess.with_fit("squish"))
    assert extract(scan(folder), squished, plan)[1].embedded == 30


def test_vectors_do_not_depend_on_order_or_neighbours(folder, backbone, plan, cache, monkeypatch):
    together = by_path(*extract(scan(folder), backbone, plan))
    monkeypatch.setenv("HEADSTART_CACHE", str(cache.with_name("another")))
    backbone = load_backbone("tiny", tiny.install(folder.parent))
    from dataclasses import replace

    dataset = scan(folder)
    backwards = replace(dataset, samples=dataset.samples[::-1][:7])
    alone = by_path(*extract(backwards, backbone, plan))
    assert alone == {path: together[path] for path in alone}


def test_broken_and_vanished_pictures_become_problems(folder, backbone, plan):
    dataset = scan(folder)
    (folder / "amber" / "03.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    (folder / "blue" / "04.png").unlink()
    readable, features = extract(dataset, backbone, plan)
    assert {(problem.path, problem.kind) for problem in readable.problems} == {
        ("amber/03.png", "unreadable"),
        ("blue/04.png", "vanished"),
    }
    assert len(readable.samples) == len(features.digests) == 28


def test_a_copy_shares_its_vector(folder, backbone, plan):
    (folder / "amber" / "copy.png").write_bytes((folder / "amber" / "00.png").read_bytes())
    dataset, features = extract(scan(folder), backbone, plan)
    assert len(dataset.samples) == 31
    assert len(features.digests) == 30


def test_an_interruption_keeps_what_was_embedded(folder, backbone, plan, monkeypatch):
    calls = iter(range(100))
    original = room._embed_batch

    def interrupted(work):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return original(work)

    monkeypatch.setattr(room, "_embed_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(scan(folder), backbone, plan)
    monkeypatch.setattr(room, "_embed_batch", original)
    kept = stored_recipes()[0].vectors
    assert kept > 0
    assert extract(scan(folder), backbone, plan)[1].embedded == 30 - kept


def test_a_vector_lost_from_the_store_is_embedded_again(folder, backbone, plan):
    import sqlite3

    first = by_path(*extract(scan(folder), backbone, plan))
    database = sqlite3.connect(stored_recipes()[0].path)
    with database:
        database.execute("update features set crc = crc + 1 where rowid <= 5")
    database.close()
    assert by_path(*extract(scan(folder), backbone, plan)) == first


def test_pictures_are_decoded_only_a_little_ahead(folder, backbone, plan, monkeypatch):
    lock, counts = threading.Lock(), {"decoded": 0, "embedded": 0, "most": 0}
    decode, embed_batch = room.decode, room._embed_batch

    def counting_decode(*arguments, **options):
        with lock:
            counts["decoded"] += 1
            counts["most"] = max(counts["most"], counts["decoded"] - counts["embedded"])
        return decode(*arguments, **options)

    def counting_embed(work):
        made = embed_batch(work)
        with lock:
            counts["embedded"] += len(work[1])
        return made

    monkeypatch.setattr(room, "AHEAD", 2)
    monkeypatch.setattr(room, "decode", counting_decode)
    monkeypatch.setattr(room, "_embed_batch", counting_embed)
    tiny.class_folders(folder, each=60)
    extract(scan(folder), backbone, plan)
    cores = core_count()
    assert counts["most"] <= (2 * cores + 1) + cores + plan.batch * (2 * plan.lanes + 2)


def test_a_generated_picture_is_stored_like_any_other(backbone, plan, monkeypatch):
    pixels = np.full((tiny.SIDE, tiny.SIDE, 3), 77, np.uint8)
    first = embed_picture(pixels, backbone, plan)
    monkeypatch.setattr(type(plan), "load", lambda *_: pytest.fail("the engine was loaded"))
    assert embed_picture(pixels, backbone, plan).tolist() == first.tolist()
