"""What every page is set in: templates that escape, one style, one script, and the guard against anything else."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from headstart.judging.report import charts, words

_HERE = Path(__file__).parent
_FILTERS = (
    "percent",
    "share",
    "ends",
    "measured",
    "number",
    "count",
    "many",
    "chance",
    "short",
    "plain",
    "title",
    "exact",
    "signed",
    "gap",
)


def build(template: str, store: Mapping[str, Any], *, sheets: Sequence[str] = (), **content: object) -> str:
    """A self-contained page, which needs no network and lets no script run but its own.

    Args:
        template: extends base.html.jinja, which says what it must be given.
        store: what the script knows besides the page: `pictures`, `cells` and `points`, see report.js.
        sheets: style sheets of this folder beside look.css and report.css.
        content: by name, what the template shows.
    """
    script = (_HERE / "report.js").read_text("utf-8")
    style = "".join((_HERE / sheet).read_text("utf-8") for sheet in ("look.css", "report.css", *sheets))
    page: str = (
        _environment()
        .get_template(template)
        .render(
            content,
            store=store,
            style=Markup(style),
            script=Markup(script),
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        )
    )
    return page


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(words, name) for name in _FILTERS}
    environment.filters["time"] = words.seconds
    environment.globals |= {"scale_of": charts.scale, "differences_of": charts.differences}
    return environment
