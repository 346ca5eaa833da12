"""The state of a phase in progress: tensors as safetensors, the rest as JSON, published. Never pickle.

What the state means (model, optimizer, step) is the caller's; here it goes to disk and comes back to the bit.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trivium.publish import discard, flaw, publish, sweep

_TENSORS = "state.safetensors"
_REST = "state.json"
_KEPT = 2
_DIGITS = 6


class Checkpoint(NamedTuple):
    step: int  # optimizer steps done
    tensors: dict[str, Tensor]  # on the CPU, in memory of their own
    meta: dict[str, object]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, object]) -> None:
    """Publishes `folder`/step-000123 and keeps it and the one before; steps beyond it belong to a path not taken.

    tensors  any names, dtypes and shapes, of any device; tied ones are written once and are tied again when loaded
    meta     what JSON can hold; NaN and infinities too
    raises   CheckpointError when the disk refuses; the earlier checkpoints are intact
    """
    assert step >= 0, step
    ties = _ties(tensors)
    whole = _apart({name: tensor for name, tensor in tensors.items() if name not in ties})

    def write(fresh: Path) -> None:
        save_file(whole, fresh / _TENSORS)
        (fresh / _REST).write_text(json.dumps({"step": step, "ties": ties, "meta": meta}))

    sweep(folder)
    # before publishing, lest a crash in between leaves the other path's newer step to go on from
    for path in _steps(folder):
        if _step(path) > step:
            discard(path)
    publish(folder / f"step-{step:0{_DIGITS}}", write)
    for path in [*_steps(folder)[:-_KEPT], *folder.glob("damaged-step-*")]:
        discard(path)


def latest(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; each damaged one is told to `say` and set aside until the next save."""
    complaints: list[str] = []
    found = None
    for path in reversed(_steps(folder)):
        found, wrong = _load(path)
        if found:
            break
        complaints.append(f"{path}: {wrong}")
        with suppress(OSError):  # a reader may not be allowed to; the next reader is told again
            path.rename(path.with_name(f"damaged-{path.name}"))
    going_on = f"going on from step {found.step}" if found else "no earlier checkpoint is left, this phase starts anew"
    for complaint in complaints:
        say(f"{complaint}; {going_on}")
    return found


def flatten(state: object) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Parts nested dicts, lists and tuples, such as an optimizer's state_dict, into tensors and JSON.

    returns  tensors by their path (`optimizer/state/0/exp_avg`), and the structure that names them, for `unflatten`
    raises   TypeError naming the path of anything else than a tensor, a number, a string, a bool or None
    """
    tensors: dict[str, Tensor] = {}

    def part(value: object, path: str) -> object:
        match value:
            case Tensor():
                name = path
                while name in tensors:  # the keys 1 and "1", or "a/b" and "a", "b"
                    name += "'"
                tensors[name] = value
                return {"tensor": name}
            case None | bool() | int() | float() | str():
                return value
            case Mapping():
                return {
                    "dict": [[part(key, f"{path}/key"), part(item, _join(path, key))] for key, item in value.items()]
                }
            case list() | tuple():
                kind = "list" if isinstance(value, list) else "tuple"
                return {kind: [part(item, _join(path, index)) for index, item in enumerate(value)]}
        raise TypeError(f"{path}: a {type(value).__name__} cannot be kept in a checkpoint")

    return tensors, {"state": part(state, "")}


def unflatten(tensors: Mapping[str, Tensor], meta: Mapping[str, object]) -> object:
    """The exact inverse of `flatten`, also after `meta` has been written as JSON and read again."""

    def join(value: object) -> object:
        match value:
            case {"tensor": str(name)}:
                return tensors[name]
            case {"dict": list(items)}:
                return {join(key): join(item) for key, item in items}
            case {"list": list(items)}:
                return [join(item) for item in items]
            case {"tuple": list(items)}:
                return tuple(join(item) for item in items)
        return value

    return join(meta["state"])


def _join(path: str, key: object) -> str:
    return f"{path}/{key}" if path else str(key)


def _ties(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Names whose tensor is the very same memory as an earlier one's → that one's name."""
    first: dict[tuple[object, ...], str] = {}
    ties: dict[str, str] = {}
    for name, tensor in tensors.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and first.setdefault(place, name) != name:
            ties[name] = first[place]
    return ties


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values, each contiguous and in memory that it shares with nothing: safetensors takes no others."""
    apart: dict[str, Tensor] = {}
    used: set[tuple[object, int]] = set()
    for name, tensor in tensors.items():
        values = tensor.detach().contiguous()
        storage = values.untyped_storage()
        place = (values.device, storage.data_ptr())
        apart[name] = values.clone() if place in used or storage.nbytes() != values.nbytes else values
        used.add(place)
    return apart


def _steps(folder: Path) -> list[Path]:
    """Checkpoints, oldest first."""
    named = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return sorted(named, key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _load(path: Path) -> tuple[Checkpoint | None, str]:
    """The checkpoint, or what is wrong with it."""
    if wrong := flaw(path):
        return None, wrong
    try:
        rest = json.loads((path / _REST).read_bytes())
        with safe_open(path / _TENSORS, "pt") as file:
            # clones: a mapped file would be read, and could fail, at any later time, and is aligned otherwise
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        tensors |= {name: tensors[tied] for name, tied in rest["ties"].items()}
        return Checkpoint(rest["step"], tensors, rest["meta"]), ""
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        return None, f"holds no training state ({error})"
