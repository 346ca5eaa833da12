"""How much text a recipe names, before it is gathered: little is counted, much is told from the sizes of its files."""

import math

from trivium.config import DataConfig
from trivium.text.corpus import PYDOCS, files_named, most_of_files, worlds_of
from trivium.text.sources import TEXT_KINDS, read_documents, size_in_bytes, sources_of, text_size

COUNTED_BYTES = 64_000_000  # of text are read to count it
PYDOCS_BYTES = 2_400_000  # of text in the documentation of a Python, roughly


def text_on_file(data: DataConfig) -> float:
    """UTF-8 bytes of text to learn from, TinyWorld's own left out, which writes as much as is asked for.

    returns  exact for little text without duplicates; infinite where a data set of the hub is named, which is not read
    """
    share = 1.0 if data.text_held_out else 1 - data.held_out_share
    pydocs = PYDOCS_BYTES if any(name == PYDOCS for name, _ in worlds_of(data, "text")) else 0
    return share * (pydocs + _files(data))


def _files(data: DataConfig) -> float:
    names = files_named(data, "text")
    if not names:
        return 0.0
    sources = sources_of(names, field="data.text", kinds=TEXT_KINDS)
    if any(source.data_set for source in sources):
        return math.inf
    counted, most = 0, most_of_files(data)
    for document in read_documents(names, bad_rows=data.bad_rows):
        counted += size_in_bytes(document)
        if counted >= min(COUNTED_BYTES, most):
            return min(most, max(float(counted), sum(map(text_size, sources))))
    return min(most, float(counted))
