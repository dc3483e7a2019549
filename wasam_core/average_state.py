"""What a model must be to be averaged, and a saved state to be loaded."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from wasam_core.lookup import Form, bare_name, differences, forms_of, is_split

FORMAT = 1


def check_state(state: Mapping[str, Any], forms: Sequence[Form], settings: Mapping[str, Any]) -> None:
    """Refuse a state of other settings, or of a model of other parameters.

    Args:
        state: what `WeightAverages.state_dict` returned.
        forms: of the tensors that are averaged of the model at hand.
        settings: of the averages at hand: "ema_every", "windows", "start epochs", "decays".

    Raises:
        ValueError: says what differs.
    """
    if state.get("format") != FORMAT:
        raise ValueError(
            f"This is no state of WeightAverages: it has format {state.get('format')!r}, and {FORMAT} is needed. Give "
            "what their state_dict() returned."
        )
    saved_settings = {
        "ema_every": state["ema_every"],
        "windows": state.get("windows", settings["windows"]),  # which earlier states don't name
        "start epochs": list(state["segments"]),
        "decays": list(state["emas"]),
    }
    for what, saved in saved_settings.items():
        if saved != settings[what]:
            raise ValueError(
                f"The saved averages have other {what} than this object: {saved} against {settings[what]}. Build it "
                "with the settings of the saved run."
            )
    # Wrapped or not, as it was when the state was saved, it is the same model.
    here = [(bare_name(name), shape, dtype) for name, shape, dtype in forms]
    names = [bare_name(name) for name in state["layout"]]
    means = [one["values"] for one in (*state["segments"].values(), *state["emas"].values())]
    for values in (*filter(None, means), *state["snapshots"]):
        found = differences([(n, t.shape, t.dtype) for n, t in zip(names, values, strict=False)], here)
        if found:
            raise ValueError(
                f"The saved averages are those of another model; in this one, {found}. Load them for a model of the "
                "same parameters, with the settings of the saved run, or begin new ones."
            )
        if len(values) != len(names) or not all(t.is_floating_point() or t.is_complex() for t in values):
            raise ValueError("The saved averages do not hold one tensor of numbers for each of their names.")


def check_model(call: str, tensors: dict[str, Tensor], held: Sequence[Form]) -> None:
    """Refuse tensors that cannot be averaged, or are others than those that were taken in before.

    Args:
        call: who asks.
        tensors: of the model, as they are now.
        held: of those that were taken in; empty if there were none.
    """
    split = [name for name, t in tensors.items() if is_split(t)]
    if split:
        raise RuntimeError(
            f"{call}() on a model that is split over processes (FSDP, tensor parallelism): this one holds a part of "
            f"{split[0]}, which changes its form in every pass. Use DistributedDataParallel, which keeps whole "
            "parameters in each process."
        )
    unreal = [name for name, t in tensors.items() if t.is_meta]
    if unreal:
        raise RuntimeError(
            f"{call}() on a model without values: {unreal[0]} is on the meta device. Call to_empty(device=...) and "
            "load or initialize the weights first."
        )
    found = differences(held, forms_of(tensors)) if held else ""
    if found:
        raise RuntimeError(
            f"{call}() on another model than the averages were begun with: {found}. Change the model before the first "
            "update, or begin with new WeightAverages."
        )
