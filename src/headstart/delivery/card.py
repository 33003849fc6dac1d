"""The model card: what a stranger who finds the model folder needs to know."""

import json
from collections.abc import Iterator

from headstart.judging.evaluation import Evaluation
from headstart.judging.intervals import Interval
from headstart.judging.promises import Promises
from headstart.learning.classifier import DEFAULT, Classifier

NAMES_SHOWN = 20

LICENCES = {"apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}
"""Of the names that the Hub knows, those that backbones come under."""
NOT_OF_TIMM = {"torchvision": "The network is torchvision's", "joined": "The network is several networks joined"}


def model_card(
    classifier: Classifier,
    evaluation: Evaluation,
    promises: Promises,
    n_train: int,
    *,
    recipe: str | None = None,
    calibrated: bool = True,
) -> str:
    """The card in Markdown, with the front matter that the Hugging Face Hub reads.

    `promises` is what became of them on the held-out pictures. `recipe` is what the classifier was trained by epochs
    with, if it was; `calibrated` whether pictures were kept aside for it.
    """
    backbone, preprocess = classifier.backbone, classifier.backbone.preprocess
    names = [name.replace("\n", " ").replace("`", "'") for name in classifier.classes]
    shown = ", ".join(f"`{name}`" for name in names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    timm_use = (
        '```python\ntimm.create_model("local-dir:PATH/TO/model", pretrained=True)\n```'
        if backbone.library == "timm"
        else f"{NOT_OF_TIMM[backbone.library]}: timm cannot load it, the ONNX file and headstart can."
    )
    method = f"trained by epochs, with the recipe `{recipe}`, from"
    if recipe is None:
        method = "a regularised softmax regression on the frozen features of"
    calibration = "are not calibrated, and prediction sets hold every class: the recipe keeps no pictures aside for it"
    kept = ""
    if calibrated:
        calibration = "are calibrated on pictures not learnt from"
        kept = "\n".join(_promises(promises))
    front = "\n".join(_front_matter(classifier, evaluation))
    return f"""---
{front}
---
# An image classifier of {len(names)} classes

{shown}{more}.

- **On held-out pictures:** {evaluation} (95 % interval).
- **Trained on** {n_train:,} pictures: {method}
  `{backbone.name}` ({backbone.parameters / 1e6:.1f} million parameters, weights under {backbone.licence}).
- **Input:** {preprocess.height} x {preprocess.width} pixels, fit by `{preprocess.fit}`.
- **Probabilities** {calibration}.
- **Limits:** the numbers hold for pictures like those it was trained and tested on, and for these classes only.
{kept}
## Use

```sh
headstart predict PATH/TO/model pictures/
```

{timm_use}

`model.onnx` takes `pixels`, uint8 [n, {preprocess.height}, {preprocess.width}, 3] RGB, resized and not normalised; it
gives `probabilities`, `logits` and `features`. The class names stand in its metadata under `classes`.
"""


def _front_matter(classifier: Classifier, evaluation: Evaluation) -> Iterator[str]:
    """What the Hub reads of a card, as lines of YAML: licence, library, task, and figures on the held-out pictures."""
    backbone = classifier.backbone
    if backbone.licence in LICENCES:
        yield f"license: {backbone.licence}"
    else:  # the Hub refuses names that it does not know
        yield from ("license: other", f"license_name: {json.dumps(backbone.licence)}")
    yield f"library_name: {'timm' if backbone.library == 'timm' else 'headstart'}"
    yield "pipeline_tag: image-classification"
    yield "tags: [image-classification, headstart]"
    yield "metrics: [accuracy, f1]"
    if evaluation.n == 0:
        return
    yield from ("model-index:", "- name: headstart", "  results:", "  - task: {type: image-classification}")
    yield "    dataset: {type: held-out, name: Held-out pictures of its owner}"
    yield "    metrics:"
    for kind, name, value in (("accuracy", "Accuracy", evaluation.accuracy), ("f1", "Macro F1", evaluation.macro_f1)):
        if _is_known(value):
            yield f"    - {{type: {kind}, name: {name}, value: {value.value:.4f}}}"


def _promises(promises: Promises) -> Iterator[str]:
    """What was promised and what held, as lines of Markdown; nothing where no picture was held out."""
    sets = [one for one in promises.sets if one.kind == DEFAULT.kind and _is_known(one.held)]
    if not sets:
        return
    yield from ("", "## Promises, and what became of them on the held-out pictures", "")
    yield from ("| asked for | came |", "|---|---|")
    for one in sets:
        asked = f"| sets that hold the true class {one.coverage * 100:.0f} % of the time |"
        yield f"{asked} they held it {_share(one.held)}, with {one.mean_size:.2f} classes on average |"
    rejection = promises.none_of_these
    wanted = f"{rejection.false_reject_rate * 100:.2g} % of the pictures of known classes"
    yield f"| “none of these” for {wanted} | {_share(rejection.rejected)} |"
    for answer in promises.abstain:
        asked = f"| answers that are right {answer.wanted * 100:.0f} % of the time |"
        if answer.threshold is None or not _is_known(answer.accuracy):
            yield f"{asked} out of reach |"
            continue
        sure = f"from a probability of {answer.threshold * 100:.1f} % on"
        right = f"right on {_share(answer.accuracy)} of them"
        yield f"{asked} {sure}: {_share(answer.answered)} answered, {right} |"
    yield ""


def _is_known(interval: Interval) -> bool:
    return interval.value == interval.value


def _share(interval: Interval) -> str:
    return f"{interval.value * 100:.1f} % ({interval.low * 100:.1f} to {interval.high * 100:.1f} %)"
