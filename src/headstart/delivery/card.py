"""The model card: what a stranger who finds the model folder needs to know."""

from headstart.judging.evaluation import Evaluation
from headstart.learning.classifier import COVERAGE, Classifier

NAMES_SHOWN = 20


def model_card(
    classifier: Classifier, evaluation: Evaluation, n_train: int, *, recipe: str | None = None, calibrated: bool = True
) -> str:
    """The card in Markdown, with the front matter that the Hugging Face Hub reads.

    `recipe` is what the classifier was trained by epochs with, if it was; `calibrated` whether pictures were kept aside
    for it.
    """
    backbone, preprocess = classifier.backbone, classifier.backbone.preprocess
    names = [name.replace("\n", " ").replace("`", "'") for name in classifier.classes]
    shown = ", ".join(f"`{name}`" for name in names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    timm_use = (
        '```python\ntimm.create_model("local-dir:PATH/TO/model", pretrained=True)\n```'
        if backbone.library == "timm"
        else "The network is torchvision's: timm cannot load it, the ONNX file and headstart can."
    )
    method = f"trained by epochs, with the recipe `{recipe}`, from"
    if recipe is None:
        method = "a regularised softmax regression on the frozen features of"
    calibration = "are not calibrated, and prediction sets hold every class: the recipe keeps no pictures aside for it"
    if calibrated:
        calibration = f"are calibrated on pictures not learnt from; prediction sets aim at {COVERAGE:.0%} coverage"
    return f"""---
license: {backbone.licence}
library_name: timm
pipeline_tag: image-classification
tags: [image-classification, headstart]
---
# An image classifier of {len(names)} classes

{shown}{more}.

- **On held-out pictures:** {evaluation} (95 % interval).
- **Trained on** {n_train:,} pictures: {method}
  `{backbone.name}` ({backbone.parameters / 1e6:.1f} million parameters, weights under {backbone.licence}).
- **Input:** {preprocess.height} x {preprocess.width} pixels, fit by `{preprocess.fit}`.
- **Probabilities** {calibration}.
- **Limits:** the numbers hold for pictures like those it was trained and tested on, and for these classes only.

## Use

```sh
headstart predict PATH/TO/model pictures/
```

{timm_use}

`model.onnx` takes `pixels`, uint8 [n, {preprocess.height}, {preprocess.width}, 3] RGB, resized and not normalised; it
gives `probabilities`, `logits` and `features`. The class names stand in its metadata under `classes`.
"""
