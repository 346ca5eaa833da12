"""Numbers with their nouns, for messages and tables."""


def counted(number: float, noun: str) -> str:
    """`1 step`, `2,000 steps`, `0.3 minutes`."""
    told = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{told} {noun}{'' if told == '1' else 's'}"


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
