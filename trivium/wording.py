"""Numbers with their nouns, for messages and tables."""


def counted(number: float, noun: str) -> str:
    """`1 step`, `2,000 steps`, `0.3 minutes`."""
    told = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{told} {noun}{'' if told == '1' else 's'}"
