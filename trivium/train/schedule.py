"""How the learning rate moves over a run: a share of its peak, as a function of the share of the run that is done."""


def warmup_stable_decay(progress: float, *, warmup: float, decay: float) -> float:
    """Rise linearly, hold, fall linearly to zero.

    progress       0 at the first step, below 1 at the last
    warmup, decay  shares of the run, 0 to 1
    returns        0 to 1
    Hu et al. 2024, arXiv:2404.06395; linear to zero: Bergsma et al. 2025, arXiv:2502.15938
    """
    rising = (progress + 1e-9) / warmup if warmup > 0 else 1.0
    falling = (1 - progress) / decay if decay > 0 else 1.0
    return max(0.0, min(1.0, rising, falling))
