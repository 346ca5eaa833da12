"""Both ways of writing."""

import pytest

from trivium.generate.native import library


@pytest.fixture(params=["torch", "native"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every law of a file that uses it holds for both decoders."""
    monkeypatch.setenv("TRIVIUM_NATIVE", "0" if request.param == "torch" else "1")
    if request.param == "native" and isinstance(why := library(), str):
        pytest.skip(why)
    return str(request.param)
