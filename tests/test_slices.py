import json

import numpy as np
import pytest
from scipy.stats import fisher_exact

from headstart.judging.slices import MOST_VALUES, design_effect, fisher, slices
from headstart.pictures.looks import Looks


def looks(n, seed=0, **given):
    """The looks of n pictures, drawn by chance but for those given."""
    generator = np.random.default_rng([seed, *b"looks"])
    columns = {name: generator.random(n).astype(np.float32) for name in ("brightness", "contrast", "sharpness")}
    columns |= {name: np.zeros(n, np.float32) for name in ("quality", "darkest", "brightest")}
    columns |= {name: generator.integers(50, 500, n).astype(np.int32) for name in ("width", "height")}
    columns |= {"format": tuple(np.where(generator.random(n) < 0.3, "PNG", "JPEG").tolist()), "mode": ("RGB",) * n}
    columns |= {"prints": np.zeros((n, 32, 32), np.uint8), "colours": np.full((n, 64), 1 / 64, np.float32)}
    return Looks(file_bytes=np.zeros(n, np.int64), **(columns | given))


class TestFisher:
    @pytest.mark.parametrize(
        "counts",
        [
            (3, 1, 1, 3),
            (0, 10, 5, 10),
            (7, 20, 3, 60),
            (10, 0, 0, 10),
            (0, 12, 0, 9),
            (9, 3, 30, 0),
            (40, 300, 90, 3000),
        ],
    )
    def test_it_is_scipys(self, counts):
        expected = fisher_exact(np.reshape(counts, (2, 2)), alternative="greater").pvalue
        assert fisher(*counts) == pytest.approx(expected, rel=1e-7)


class TestWhatIsFound:
    def test_dark_pictures_that_are_harder(self):
        generator = np.random.default_rng(1)
        brightness = generator.random(300).astype(np.float32)
        correct = generator.random(300) < np.where(brightness < np.quantile(brightness, 1 / 3), 0.6, 0.97)
        found = slices(correct, np.arange(300), looks(300, brightness=brightness))
        worst = found[0]
        assert (worst.by, worst.name, worst.n) == ("brightness", "darkest third", 100)
        assert worst.p < 1e-6
        assert worst.accuracy.value == correct[np.argsort(brightness)[:100]].mean()
        assert worst.rest.value == correct[np.argsort(brightness)[100:]].mean()
        assert worst.accuracy.high < worst.rest.low
        assert [one.p for one in found] == sorted(one.p for one in found)
        assert found[1].p > 0.05

    def test_p_is_corrected_for_the_number_of_slices(self):
        correct, site = np.ones(100, bool), ["a"] * 30 + ["b"] * 70
        correct[[0, 1, 2, 3, 50]] = False
        alone = slices(correct, np.arange(100), columns={"site": site})
        assert [one.name for one in alone] == ["a", "b"]
        assert alone[0].p == pytest.approx(2 * fisher(4, 26, 1, 69))
        assert slices(correct, np.arange(100), looks(100), {"site": site})[0].p > 2 * alone[0].p

    def test_better_than_the_rest_is_no_finding(self):
        correct = np.arange(90) >= 40
        found = {one.name: one.p for one in slices(correct, np.arange(90), columns={"site": ["x"] * 40 + ["y"] * 50})}
        assert found["x"] < 1e-9
        assert found["y"] == 1

    def test_sizes_shapes_and_formats(self):
        width, height = np.repeat([100, 200, 400], 30).astype(np.int32), np.full(90, 200, np.int32)
        formats = ("JPEG",) * 60 + ("PNG",) * 25 + ("BMP",) * 5
        found = slices(np.arange(90) % 7 > 0, np.arange(90), looks(90, width=width, height=height, format=formats))
        names = {(one.by, one.name): one.n for one in found}
        assert [names["size", f"{which} third"] for which in ("smallest", "middle", "largest")] == [30, 30, 30]
        assert [names["aspect", f"{which} third"] for which in ("tallest", "middle", "widest")] == [30, 30, 30]
        assert (names["format", "JPEG"], names["format", "PNG"]) == (60, 25)
        assert ("format", "BMP") not in names  # too few

    def test_what_is_not_cut(self):
        even = looks(60, brightness=np.full(60, 0.5, np.float32), format=("JPEG",) * 60)
        columns = {"owner": [f"owner {i % (MOST_VALUES + 1)}" for i in range(60)], "camera": [None] * 30 + ["x"] * 30}
        found = {one.by for one in slices(np.ones(60, bool), np.arange(60), even, columns)}
        assert found == {"contrast", "sharpness", "size", "aspect"}
        assert slices(np.zeros(0, bool), np.zeros(0, int), looks(0)) == []
        assert slices(np.ones(15, bool), np.arange(15), looks(15)) == []

    def test_missing_values_are_in_no_slice_but_in_the_rest(self):
        column = ["x"] * 20 + ["y"] * 20 + [None] * 20
        found = slices(np.arange(60) >= 5, np.arange(60), columns={"camera": column})
        assert [(one.name, one.n, one.rest.value) for one in found] == [("x", 20, 1.0), ("y", 20, 0.875)]

    def test_json(self):
        found = slices(np.arange(40) >= 5, np.arange(40), columns={"site": ["a"] * 20 + ["b"] * 20})[0].to_json()
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert set(found) == {"by", "name", "n", "accuracy", "rest", "p"}
        assert set(found["rest"]) == {"value", "low", "high"}


class TestGroups:
    def test_copies_count_once(self):
        correct, site = np.arange(100) % 10 > 0, np.where(np.arange(100) % 20 < 10, "a", "b")
        correct[site == "b"] = True
        bare = slices(correct, np.arange(100), columns={"site": site.tolist()})
        copies = slices(correct.repeat(4), np.arange(100).repeat(4), columns={"site": site.repeat(4).tolist()})
        assert copies[0].p == pytest.approx(bare[0].p)
        assert (
            slices(correct.repeat(4), np.arange(400), columns={"site": site.repeat(4).tolist()})[0].p < bare[0].p / 10
        )

    def test_a_column_that_the_groups_were_made_from(self):
        cameras = np.arange(90) // 30
        correct = (cameras > 0) | (np.arange(90) % 2 > 0)
        by_camera = slices(correct, cameras, columns={"camera": [f"camera {c}" for c in cameras]})
        assert by_camera[0].name == "camera 0"
        assert by_camera[0].p < 1e-4
        bright = looks(90, brightness=np.arange(90, dtype=np.float32))
        assert slices(correct, cameras, bright)[0].p > 0.3  # three cameras say nothing about light

    def test_design_effect_at_its_ends(self):
        inside, correct = np.arange(40) < 20, np.arange(40) % 4 > 0
        assert design_effect(inside, correct, np.arange(40)) == 1
        assert design_effect(inside.repeat(3), correct.repeat(3), np.arange(40).repeat(3)) == 3
        assert design_effect(inside, np.ones(40, bool), np.arange(40) // 5) == 5


class TestChance:
    def share_of_false_findings(self, seeds, draw):
        return np.mean([any(one.p < 0.05 for one in draw(seed)) for seed in range(seeds)])

    def test_mistakes_by_chance_are_rarely_found(self):
        def draw(seed):
            generator = np.random.default_rng([seed, 1])
            site = generator.integers(0, 4, 200).astype(str).tolist()
            return slices(generator.random(200) < 0.85, np.arange(200), looks(200, seed), {"site": site})

        assert self.share_of_false_findings(200, draw) <= 0.05

    def test_groups_that_are_right_or_wrong_together_are_rarely_found(self):
        def draw(seed):
            generator, groups = np.random.default_rng([seed, 2]), np.arange(240) // 4
            correct = (generator.random(60) < 0.8)[groups]
            light = (generator.random(60)[groups] + 0.01 * generator.random(240)).astype(np.float32)
            return slices(correct, groups, looks(240, seed, brightness=light, contrast=light))

        assert self.share_of_false_findings(200, draw) <= 0.05
