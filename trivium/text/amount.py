"""How much text a recipe names, before it is gathered: little is counted, much is told from the sizes of its files."""

import math
from contextlib import suppress

from trivium.config import DataConfig
from trivium.errors import TriviumError
from trivium.text.archives import PACKED, kind_of, size_of
from trivium.text.corpus import PYDOCS, files_named, worlds_of
from trivium.text.schemas import Source
from trivium.text.sources import TEXT_KINDS, read_documents, sources_of

COUNTED_BYTES = 64_000_000  # of text are read to count it
PYDOCS_BYTES = 2_400_000  # of text in the documentation of a Python, roughly
UNPACKED, UNPACKED_COLUMNS = 3.0, 2.0  # times as large is text out of .gz or .zst, and out of Parquet, roughly


def text_on_file(data: DataConfig) -> float:
    """UTF-8 bytes of text to learn from, TinyWorld's own left out, which writes as much as is asked for.

    returns  exact for little text without duplicates; infinite where a data set of the hub is named, which is not read
    """
    share = 1.0 if data.text_held_out else 1 - data.held_out_share
    pydocs = PYDOCS_BYTES if any(name == PYDOCS for name, _ in worlds_of(data, "text")) else 0
    return share * (pydocs + _files(data))


def bytes_of_files(data: DataConfig) -> float:
    """UTF-8 bytes of the files' texts, by their sizes: none is read, and one that is gone counts nothing."""
    sources: list[Source] = []
    with suppress(TriviumError):
        sources = sources_of(files_named(data, "text"), field="data.text", kinds=TEXT_KINDS)
    return sum(_told_by_size(source) for source in sources if not source.data_set)


def _files(data: DataConfig) -> float:
    names = files_named(data, "text")
    if not names:
        return 0.0
    sources = sources_of(names, field="data.text", kinds=TEXT_KINDS)
    if any(source.data_set for source in sources):
        return math.inf
    counted = 0
    for document in read_documents(names, bad_rows=data.bad_rows):
        counted += len(document.text.encode("utf-8", "surrogatepass"))
        if counted >= COUNTED_BYTES:
            return max(float(counted), sum(map(_told_by_size, sources)))
    return float(counted)


def _told_by_size(source: Source) -> float:
    packed = source.path.suffix.lower() in PACKED
    columns = kind_of(source.path) == ".parquet"
    return size_of(source.path) * (UNPACKED if packed else UNPACKED_COLUMNS if columns else 1.0)
