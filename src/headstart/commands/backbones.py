"""`headstart backbones`: what can be used, and what one of them is made of."""

import sys
from collections.abc import Iterable

import click

from headstart.errors import UsageError


@click.command()
@click.argument("name", required=False)
@click.option("--size", type=int, metavar="PIXELS", help="With NAME: the side of its pictures.  [default: its own]")
@click.option("--measure", is_flag=True, help="With NAME: also measure receptive fields, by gradients.")
def backbones(name: str | None, size: int | None, measure: bool) -> None:
    """List the backbones that can be used, and where their weights are; or the layers of one.

    NAME is any timm classifier, or torchvision/NAME; its weights are not needed. docs/how-a-network-sees.md explains
    the table.
    """
    if name is not None:
        from headstart.delivery import anatomy

        _print(anatomy.anatomy_lines(anatomy.anatomy(name, size, measure=measure)))
        return
    if size is not None or measure:
        raise UsageError("--size and --measure are about the layers of one backbone; give its NAME.")
    from headstart import terminal

    _print(terminal.backbone_lines())


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
