"""`headstart backbones`: what can be used, and what one of them is made of."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from headstart.commands.printing import show
from headstart.errors import UsageError

if TYPE_CHECKING:
    from headstart.delivery.lesson.anatomy import Anatomy

FilePath = click.Path(path_type=Path)


@click.command()
@click.argument("name", required=False)
@click.option("--size", type=int, metavar="PIXELS", help="With NAME: the side of its pictures.  [default: its own]")
@click.option("--measure", is_flag=True, help="With NAME: also measure receptive fields, by gradients.")
@click.option("--page", type=FilePath, metavar="FILE.html", help="With NAME: write a page that shows how it sees.")
@click.option("--picture", type=FilePath, help="With --page: the photo that it looks at.  [default: a flower]")
@click.option("--weights", type=FilePath, help="With --page: a file with its weights.")
def backbones(
    name: str | None,
    size: int | None,
    measure: bool,
    page: Path | None,
    picture: Path | None,
    weights: Path | None,
) -> None:
    """List the backbones that can be used, and where their weights are; or the layers of one.

    NAME is any timm classifier, or torchvision/NAME; only the page needs its weights. docs/how-a-network-sees.md
    explains the table.
    """
    if name is None:
        if size is not None or measure or page is not None:
            raise UsageError("--size, --measure and --page are about one backbone; give its NAME.")
        from headstart import terminal

        show(terminal.backbone_lines())
        return
    if page is None and (picture is not None or weights is not None):
        raise UsageError("--picture and --weights are for the page; give --page FILE.html too.")
    if page is not None and size is not None:
        raise UsageError("the page shows a network at the size it was made for; leave out --size.")
    from headstart.delivery.lesson import anatomy

    found = anatomy.anatomy(name, size, measure=measure)
    if page is None:
        show(anatomy.anatomy_lines(found))
    else:
        _write(page, found, picture, weights)


def _write(page: Path, found: "Anatomy", picture: Path | None, weights: Path | None) -> None:
    from headstart import progress
    from headstart.delivery.lesson.photo import photo
    from headstart.delivery.lesson.showing import write_page
    from headstart.features.backbones import load_backbone

    looked_at = photo(picture)
    backbone = load_backbone(found.name, weights, progress=progress.on_standard_error())
    show([f"how {found.name} sees is in {write_page(page, found, backbone, looked_at)}"])
