"""How much text a recipe names, before it is gathered: little is counted, much is told from the sizes of its files."""

import math

from trivium.config import DataConfig
from trivium.text.corpus import PYDOCS, files_named, hub_sets, most_of_files, worlds_of
from trivium.text.documents import MEGABYTE
from trivium.text.hub import is_hub
from trivium.text.sources import TEXT_KINDS, read_documents, size_in_bytes, sources_of, text_size

COUNTED_BYTES = 64_000_000  # of text are read to count it
PYDOCS_BYTES = 2_400_000  # of text in the documentation of a Python, roughly


def text_on_file(data: DataConfig) -> float:
    """UTF-8 bytes of text to learn from, TinyWorld's own left out, which writes as much as is asked for.

    returns  exact for little text without duplicates; of a data set of the hub, which is not read, what is said to be
             taken of it at most, infinite where that is not said
    """
    share = 1.0 if data.text_held_out else 1 - data.held_out_share
    pydocs = PYDOCS_BYTES if any(name == PYDOCS for name, _ in worlds_of(data, "text")) else 0
    if hub_sets(data) and "hub_megabytes" not in data.model_fields_set:
        return math.inf
    return share * (pydocs + MEGABYTE * data.hub_megabytes * hub_sets(data) + _files(data))


def _files(data: DataConfig) -> float:
    names = [name for name in files_named(data, "text") if not is_hub(name)]
    if not names:
        return 0.0
    sources = sources_of(names, field="data.text", kinds=TEXT_KINDS)
    counted, most = 0, most_of_files(data)
    for document in read_documents(names, bad_rows=data.bad_rows):
        counted += size_in_bytes(document)
        if counted >= min(COUNTED_BYTES, most):
            return min(most, max(float(counted), sum(map(text_size, sources))))
    return min(most, float(counted))
