"""`headstart backbones NAME`: what a person reads about a network."""

import re

import pytest


def test_every_layer_has_its_line(headstart):
    status, out, _ = headstart("backbones", "resnet18", "--measure")
    lines = out.splitlines()
    assert status == 0
    assert lines[0] == "resnet18: 11,689,512 parameters, 1,814 million multiply-adds for a picture of 224 x 224 pixels"
    rows = [re.split(r"\s{2,}", line) for line in lines]
    last = [
        "layer4.1.conv2",
        "convolution, batch norm",
        "3",
        "1",
        "1",
        "1",
        "512 x 7 x 7",
        "2,360,320",
        "115.6",
        "435",
        "32",
    ]
    assert last in rows
    assert ["layer4.1", "addition, ReLU", "512 x 7 x 7", "435", "32"] in rows
    assert lines[-1] == "measured by gradients: all 20 fields of convolutions are as computed"


def test_another_size_changes_maps_and_work_but_no_field(headstart):
    lines = headstart("backbones", "resnet18", "--size", "112")[1].splitlines()
    assert "485 million" in lines[0]  # more than a quarter: 7 rows become 4
    (row,) = [line for line in lines if line.startswith("layer4.1.conv2 ")]
    assert "512 x 4 x 4" in row
    assert re.search(r"435\s+32$", row)


def test_depthwise_convolutions_are_told(headstart):
    _, out, _ = headstart("backbones", "tf_efficientnet_lite0")
    assert re.search(r"blocks\.0\.0\.conv_dw\s+convolution, batch norm, ReLU6\s+3\s+1\s+1\s+each", out)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["resnet18b"], 1, "Did you mean resnet18"),
        (["resnet18", "--size", "0"], 2, "1 to 4,096"),
        (["resnet18", "--size", "100000"], 2, "1 to 4,096"),
        (["vit_tiny_patch16_224", "--size", "100"], 1, "graph of VisionTransformer"),
        (["--size", "64"], 2, "give its NAME"),
        (["--measure"], 2, "give its NAME"),
    ],
)
def test_what_is_wrong_is_said(headstart, words, status, said):
    left, out, err = headstart("backbones", *words)
    assert (left, out) == (status, "")
    assert said in err
