"""Where `WASAM`'s own part of a state dict lies: in `state` and `param_groups`, the two keys that every tool keeps.

torch.distributed.checkpoint, among others, takes these two and leaves everything else out. It also knows parameters by
name and may bring them and their groups in another order: what belongs to a parameter lies in its own state, and what
belongs to none in every group.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor

from wasam_core.lookup import bare_name
from wasam_core.running_means import accumulator_dtype

# The keys, in each group, and in the state of each parameter.
COUNTERS, AVERAGE = "wasam", "wasam_average"

StateDict = dict[str, Any]


class Parts(NamedTuple):
    """A state dict, taken apart: the base optimizer's, the counters, and the average, by parameter; None: not there."""

    base: StateDict
    counters: dict[str, Any] | None
    average: list[Tensor | None]


def pack(base: StateDict, counters: dict[str, Any], average: list[Tensor]) -> StateDict:
    """Return the base optimizer's state dict with the counters and the average (one tensor per parameter, or empty)."""
    groups = [group | {COUNTERS: counters} for group in base["param_groups"]]
    state = dict(base["state"])
    for key, value in zip(_keys(base), average, strict=False):
        state[key] = state.get(key, {}) | {AVERAGE: value}
    return {**base, "state": state, "param_groups": groups}


def unpack(state_dict: StateDict) -> Parts:
    """Take apart what `pack` returned, whoever has carried it, or a base optimizer's own state dict."""
    counters = next((group[COUNTERS] for group in state_dict["param_groups"] if COUNTERS in group), None)
    groups = [{k: v for k, v in group.items() if k != COUNTERS} for group in state_dict["param_groups"]]
    held = state_dict["state"]
    average = [held.get(key, {}).get(AVERAGE) for key in _keys(state_dict)]
    state = {
        key: {k: v for k, v in entry.items() if k != AVERAGE} if isinstance(entry, dict) else entry
        for key, entry in held.items()
        if not isinstance(entry, dict) or entry.keys() != {AVERAGE}
    }
    return Parts({**state_dict, "state": state, "param_groups": groups}, counters, average)


def check_fit(parts: Parts, groups: list[dict[str, Any]], variant: str) -> None:
    """Refuse a state that is not one of an optimizer over such groups and of that variant, or has lost a part."""
    saved = parts.base["param_groups"]
    if [len(group["params"]) for group in saved] != [len(group["params"]) for group in groups]:
        raise ValueError(
            f"The saved state has groups of {[len(group['params']) for group in saved]} parameters, and this optimizer "
            f"of {[len(group['params']) for group in groups]}: build it like the saved one."
        )
    # Whoever keys parameters by name may have brought them in another order, which torch has put right.
    ordered = all(isinstance(key, int) for key in _keys(parts.base))
    if ordered:
        for theirs, ours in zip(saved, groups, strict=True):
            for there, here in zip(theirs.get("param_names", ()), ours.get("param_names", ()), strict=False):
                _compare("name", bare_name(there), bare_name(here))
    if parts.counters is not None:
        saved_shapes, shapes = parts.counters["shapes"], shapes_of(groups)
        if not ordered:
            saved_shapes, shapes = sorted(saved_shapes), sorted(shapes)
        for there, here in zip(saved_shapes, shapes, strict=True):
            _compare("shape", there, here)
        if (saved_variant := parts.counters.get("variant", variant)) != variant:  # which earlier states don't name
            raise ValueError(
                f'The saved state is of variant="{saved_variant}", whose rho means another radius in "{variant}": '
                f'build the optimizer with variant="{saved_variant}", as the saved one.'
            )
    elif any("rho" in group for group in saved):
        raise ValueError(
            "The state dict is of a WASAM and has lost its own part (average, counters, random numbers): it was made "
            "by the state_dict() of the optimizer inside, or flattened (flatten_optimizer_state_dict). Save "
            "optimizer.state_dict() of the WASAM itself."
        )


def shapes_of(groups: list[dict[str, Any]]) -> list[str]:
    """Return the shape of each parameter, as a text: nested lists of several lengths do not survive every tool."""
    return [str(tuple(p.shape)) for group in groups for p in group["params"]]


def _compare(what: str, there: str, here: str) -> None:
    if there != here:
        raise ValueError(
            f"The saved state is of a parameter of {what} {there}, and this optimizer has one of {what} {here} in its "
            "place: give it the same parameters in the same order as the saved one."
        )


def averaged_values(parts: Parts, parameters: list[Tensor]) -> list[Tensor]:
    """Return the values of the saved average, one for each parameter; none if it is empty."""
    assert parts.counters is not None
    if not parts.counters["averaged"]:
        return []
    values = [
        # What is keyed by name leaves frozen parameters out, which are their own average.
        p.detach().to(accumulator_dtype(p)) if value is None and not p.requires_grad else value
        for value, p in zip(parts.average, parameters, strict=True)
    ]
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        raise ValueError(
            f"The saved average counts {parts.counters['averaged']} sets of weights, and its values are missing for "
            f"{len(values) - len(present)} of {len(values)} parameters. Where a state is loaded into the place of "
            "another (torch.distributed.checkpoint.load), make that place first: call update_swa() once before."
        )
    return present


def _keys(state_dict: StateDict) -> Iterator[Any]:
    return (key for group in state_dict["param_groups"] for key in group["params"])
