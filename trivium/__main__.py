"""`python -m trivium`, for torchrun."""

from trivium.cli import main

main()
