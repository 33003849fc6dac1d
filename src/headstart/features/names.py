"""What names of backbones mean: `A+B` is two of them joined."""

JOINT = "+"


def parts_of(name: str) -> list[str]:
    """The names of the backbones that `name` joins; itself alone where it is one.

    >>> parts_of("resnet18"), parts_of("resnet18+torchvision/vgg11")
    (['resnet18'], ['resnet18', 'torchvision/vgg11'])
    """
    return name.split(JOINT)


def is_joined(name: str) -> bool:
    """Whether `name` stands for several backbones."""
    return JOINT in name
