"""Self-contained HTML pages from the templates of this folder: styles inside, no script, nothing from elsewhere."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trivium.report import words

HERE = Path(__file__).parent


def write_on_paper(template: str, *sheets: str, **values: object) -> str:
    """A whole page as HTML; everything that came from outside is escaped.

    template  a file of this folder
    sheets    files of styles, in order
    values    what the template names
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"visible": words.visible, "count": words.count}
    css = "\n".join((HERE / sheet).read_text(encoding="utf-8") for sheet in sheets)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return environment.get_template(template).render(
        css=Markup(css),  # ours; a browser checks it against the digest
        style_hash=f"sha256-{digest}",
        **values,
    )
