"""An inspection as one self-contained HTML page."""

from pathlib import Path

from trivium.errors import ConfigError
from trivium.publish import write_text
from trivium.report.paper import write_on_paper
from trivium.story.inspecting.found import Inspection, rows_of


def write_page(found: Inspection, path: Path) -> Path:
    """Writes the page, in place of an earlier one; raises ConfigError where there is a folder, or it cannot be."""
    if path.is_dir():
        raise ConfigError(f"html = {path}: is a folder; name a file, such as {path / 'inspection.html'}")
    rows = list(rows_of(found))
    sheets = ("page.css", "tokens.css", "inspection.css")
    write_text(path, write_on_paper("inspection.html.j2", *sheets, found=found, rows=rows))
    return path
