"""The model card: what a stranger who finds the model folder needs to know."""

from headstart.judging.evaluation import Evaluation
from headstart.learning.classifier import COVERAGE, Classifier

NAMES_SHOWN = 20


def model_card(classifier: Classifier, evaluation: Evaluation, n_train: int) -> str:
    """The card in Markdown, with the front matter that the Hugging Face Hub reads."""
    backbone, preprocess = classifier.backbone, classifier.backbone.preprocess
    names = [name.replace("\n", " ").replace("`", "'") for name in classifier.classes]
    shown = ", ".join(f"`{name}`" for name in names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    timm_use = (
        '```python\ntimm.create_model("local-dir:PATH/TO/model", pretrained=True)\n```'
        if backbone.library == "timm"
        else "The network is torchvision's: timm cannot load it, the ONNX file and headstart can."
    )
    return f"""---
license: {backbone.licence}
library_name: timm
pipeline_tag: image-classification
tags: [image-classification, headstart]
---
# An image classifier of {len(names)} classes

{shown}{more}.

- **On held-out pictures:** {evaluation} (95 % interval).
- **Trained on** {n_train:,} pictures: a regularised softmax regression on the frozen features of
  `{backbone.name}` ({backbone.parameters / 1e6:.1f} million parameters, weights under {backbone.licence}).
- **Input:** {preprocess.height} x {preprocess.width} pixels, fit by `{preprocess.fit}`.
- **Probabilities** are calibrated on out-of-fold predictions; prediction sets aim at {COVERAGE:.0%} coverage.
- **Limits:** the numbers hold for pictures like those it was trained and tested on, and for these classes only.

## Use

```sh
headstart predict PATH/TO/model pictures/
```

{timm_use}

`model.onnx` takes `pixels`, uint8 [n, {preprocess.height}, {preprocess.width}, 3] RGB, resized and not normalised; it
gives `probabilities`, `logits` and `features`. The class names stand in its metadata under `classes`.
"""
