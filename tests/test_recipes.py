"""Recipes: the named ones number by number, TOML files, overrides, and how mistakes are answered."""

import pytest

from headstart.errors import UsageError
from headstart.learning.augment import policy_steps
from headstart.learning.recipes import RECIPES, Recipe, load_recipe

PLAIN = {
    "weights": "pretrained",
    "start": "new",
    "validate_on": "test",
    "accumulate": 1,
    "sizes": (),
    "balance": "none",
    "clip_norm": None,
    "clip_value": None,
    "mixup": 0.0,
    "cutmix": 0.0,
    "average": "none",
    "keep": "last",
    "patience": None,
    "guard": False,
    "precision": "f32",
    "augmentation": "crop-flip",
    "spare_labels": False,
    "loss.name": "cross-entropy",
    "loss.label_smoothing": 0.0,
    "optimiser.nesterov": False,
    "optimiser.decay_biases": True,
    "optimiser.layer_decay": 1.0,
    "schedule.warmup_epochs": 0.0,
}
CLASSIC = {
    **PLAIN,
    "backbone": "resnet18.tv_in1k",
    "batch": 4,
    "epochs": 25,
    "optimiser.name": "sgd",
    "optimiser.learning_rate": 0.001,
    "optimiser.momentum": 0.9,
    "optimiser.weight_decay": 0.0,
    "schedule.name": "step",
    "schedule.step_epochs": 7,
    "schedule.gamma": 0.1,
}
DECAY = {
    **PLAIN,
    "backbone": "resnet18.tv_in1k",
    "batch": 32,
    "epochs": 30,
    "test": 0.25,
    "optimiser.name": "sgd",
    "optimiser.learning_rate": 0.001,
    "optimiser.momentum": 0.0,
    "optimiser.weight_decay": 0.01,
    "schedule.name": "constant",
}
EXPECTED = {
    "classic-frozen": {**CLASSIC, "tune": "none"},
    "classic-finetune": {**CLASSIC, "tune": "all", "batch_norm": "train"},
    "adam-clip": {
        **PLAIN,
        "tune": "none",
        "test": 0.2,
        "clip_norm": 1.0,
        "optimiser.name": "adam",
        "optimiser.learning_rate": 0.001,
        "optimiser.betas": (0.9, 0.999),
        "optimiser.weight_decay": 0.0,
        "schedule.name": "constant",
    },
    "sgd-decay": {**DECAY, "tune": "none"},
    "sgd-decay-unfrozen": {**DECAY, "tune": "all", "batch_norm": "train"},
}


def value(recipe, setting):
    for part in setting.split("."):
        recipe = getattr(recipe, part)
    return recipe


@pytest.fixture
def write(tmp_path):
    """A function that writes a recipe into a TOML file and gives its path as text."""

    def write(text, name="mine.toml"):
        (tmp_path / name).write_text(text, "utf-8")
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("name", EXPECTED)
def test_the_classic_recipes_have_the_numbers_of_the_scripts(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert {setting: value(recipe, setting) for setting in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_is_whole_and_its_augmentation_a_policy(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert isinstance(policy_steps(recipe.augmentation), tuple)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("name", ["last", "all"])
def test_headstarts_own_recipes_tune_what_they_are_named_after_and_judge_nothing_on_the_test(name):
    recipe = load_recipe(name)
    assert (recipe.tune, recipe.start, recipe.validate_on, recipe.guard) == (name, "solved", "fold", True)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("classic-frozen").epochs = 3


def test_single_settings_are_overridden_and_the_others_stay():
    recipe = load_recipe("classic-finetune", epochs=3, optimiser={"learning_rate": 0.02}, patience=None)
    assert (recipe.epochs, recipe.batch, recipe.tune) == (3, 4, "all")
    assert (recipe.optimiser.learning_rate, recipe.optimiser.momentum, recipe.optimiser.name) == (0.02, 0.9, "sgd")
    assert load_recipe("classic-finetune").epochs == 25


def test_a_file_changes_its_base_setting_by_setting(write):
    path = write(
        """
        base = "classic-finetune"
        epochs = 10
        optimiser = { learning_rate = 0.02 }
        schedule.gamma = 0.5
        augmentation = [ { name = "random-resized-crop", scale = [0.5, 1.0] }, { name = "horizontal-flip" } ]
        """
    )
    recipe, base = load_recipe(path), load_recipe("classic-finetune")
    assert recipe.name == "mine"
    assert recipe.epochs == 10
    assert recipe.optimiser == base.optimiser.model_copy(update={"learning_rate": 0.02})
    assert recipe.schedule == base.schedule.model_copy(update={"gamma": 0.5})
    assert [step["name"] for step in recipe.augmentation] == ["random-resized-crop", "horizontal-flip"]
    changed = {"name", "epochs", "optimiser", "schedule", "augmentation"}
    assert recipe.model_dump(exclude=changed) == base.model_dump(exclude=changed)
    assert policy_steps(recipe.augmentation)


def test_a_file_without_a_base_starts_from_the_defaults(write):
    path = write('sizes = [64, 96]\nloss = { name = "focal" }', "own.toml")
    expected = Recipe(name="own", sizes=(64, 96), loss={"name": "focal"})
    assert load_recipe(path) == expected


def test_overrides_come_after_a_file(write):
    path = write('base = "sgd-decay"\nepochs = 10\noptimiser.momentum = 0.5')
    recipe = load_recipe(path, epochs=2, optimiser={"weight_decay": 0.5})
    assert recipe.epochs == 2
    assert (recipe.optimiser.momentum, recipe.optimiser.weight_decay) == (0.5, 0.5)
    assert recipe.optimiser.learning_rate == 0.001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "cannot read the recipe .*mine.toml"),
        ('base = "clasic-frozen"', "unknown recipe 'clasic-frozen'; did you mean 'classic-frozen'"),
        ("base = 3", "'base' in .*mine.toml must be the name of a recipe; received 3"),
        ("epoch = 3", "mine.toml cannot be used: unknown setting 'epoch'; did you mean 'epochs'"),
        ("[optimiser]\nmomentun = 0.9", "unknown setting 'optimiser.momentun'; did you mean 'momentum'"),
    ],
)
def test_mistakes_in_a_file_are_named(write, text, message):
    with pytest.raises(UsageError, match=message):
        load_recipe(write(text))


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the recipe .*absent\.toml"):
        load_recipe(str(tmp_path / "absent.toml"))
    (tmp_path / "latin.toml").write_bytes("name = 'é'".encode("latin-1"))
    with pytest.raises(UsageError, match=r"cannot read the recipe .*latin\.toml"):
        load_recipe(str(tmp_path / "latin.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UsageError, match=r"cannot read the recipe .*folder\.toml"):
        load_recipe(str(tmp_path / "folder.toml"))


def test_an_unknown_recipe_is_answered_with_the_nearest_and_with_all():
    with pytest.raises(UsageError, match="unknown recipe 'clasic-finetune'; did you mean 'classic-finetune'") as caught:
        load_recipe("clasic-finetune")
    assert all(name in str(caught.value) for name in RECIPES)
    with pytest.raises(UsageError, match=r"unknown recipe 'qqq'\. There are last"):
        load_recipe("qqq")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"qqq": 3}, "unknown setting 'qqq'[.;]"),
        ({"optimiser": {"momentun": 0.9}}, r"unknown setting 'optimiser\.momentun'; did you mean 'momentum'"),
        ({"schedule": {"step_epoch": 9}}, r"unknown setting 'schedule\.step_epoch'; did you mean 'step_epochs'"),
        ({"loss": {"gama": 1}}, r"unknown setting 'loss\.gama'; did you mean 'gamma'"),
        ({"epochs": 0}, "epochs: .* greater than or equal to 1; received 0"),
        ({"epochs": 2.5}, "epochs: .* integer.*; received 2.5"),
        ({"epochs": "many"}, "epochs: .* integer.*; received 'many'"),
        ({"batch": -1}, "batch: .*received -1"),
        ({"test": 1.0}, r"test: .* less than 1; received 1\.0"),
        ({"test": 0}, "test: .* greater than 0; received 0"),
        ({"tune": "some"}, "tune: .*'none', 'last' or 'all'; received 'some'"),
        ({"optimiser": {"name": "lion"}}, r"optimiser\.name: .*'sgd', 'adam' or 'adamw'; received 'lion'"),
        ({"optimiser": {"learning_rate": 0}}, r"optimiser\.learning_rate: .* greater than 0; received 0"),
        ({"optimiser": {"learning_rate": float("nan")}}, r"optimiser\.learning_rate: .*received nan"),
        ({"optimiser": {"momentum": 1.0}}, r"optimiser\.momentum: .* less than 1; received 1\.0"),
        ({"optimiser": {"layer_decay": 1.5}}, r"optimiser\.layer_decay: .*received 1\.5"),
        ({"optimiser": {"betas": [0.9]}}, r"optimiser\.betas"),
        ({"optimiser": 3}, "optimiser: .*received 3"),
        ({"optimiser": {"name": "adam", "nesterov": True}}, "optimiser: nesterov = true needs name = 'sgd'"),
        ({"optimiser": {"momentum": 0, "nesterov": True}}, "optimiser: nesterov = true needs .*momentum above 0"),
        ({"schedule": {"name": "stair"}}, r"schedule\.name: .*received 'stair'"),
        ({"loss": {"label_smoothing": -0.1}}, r"loss\.label_smoothing: .*received -0\.1"),
        ({"ema_decay": 1.0}, "ema_decay: .*received 1.0"),
        ({"patience": 0}, "patience: .*received 0"),
        ({"clip_norm": 0}, "clip_norm: .*received 0"),
        ({"workers": -1}, "workers: .*received -1"),
        ({"sizes": (16,)}, "sizes.* greater than or equal to 32; received 16"),
    ],
)
def test_wrong_settings_are_named_with_the_value(changes, message):
    with pytest.raises(UsageError, match=f"the recipe classic-frozen cannot be used: {message}"):
        load_recipe("classic-frozen", **changes)


def test_several_mistakes_are_all_named():
    with pytest.raises(UsageError) as caught:
        load_recipe("classic-frozen", epochs=0, batch=0, epoch=1)
    for part in ("epochs: ", "batch: ", "unknown setting 'epoch'"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"keep": "best"}, "keep = 'best'"),
        ({"patience": 3}, "patience"),
        ({"schedule": {"name": "plateau"}}, "schedule 'plateau'"),
        ({"guard": True}, "guard"),
    ],
)
def test_nothing_is_chosen_by_the_pictures_that_judge(changes, named):
    expected = f"{named} would choose by the pictures that judge the result; set validate_on = 'fold'"
    with pytest.raises(UsageError, match=expected):
        load_recipe("classic-frozen", **changes)
    assert load_recipe("classic-frozen", validate_on="fold", **changes).validate_on == "fold"


def test_all_that_would_choose_is_named_at_once():
    with pytest.raises(UsageError, match="keep = 'best', patience would choose"):
        load_recipe("classic-frozen", keep="best", patience=2)
