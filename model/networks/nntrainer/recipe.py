"""How an INI file trains: loss, optimizer, learning rate, as the words and numbers of TOD.

Knows keys and schedules; knows no torch. nntrainer counts iterations, which are TOD's cycles, from
0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from model.networks.nntrainer import keys, tables
from model.networks.nntrainer.graph import LOSSES, Layer
from model.networks.nntrainer.text import Place, Section
from tod.format.schedule import Schedule
from tod.system.names import near_names

_OPTIMIZER_IN_MODEL = (
    "optimizer", "learning_rate", "decay_rate", "decay_steps", "beta1", "beta2", "epsilon",
)  # fmt: skip
_MULTIPLIES = "give one constant to all layers: TOD's optimizers have one weight decay"


@dataclass(frozen=True)
class Recipe:
    """How the network trains.

    Attributes:
        loss: a key of `model.step.losses.LOSSES`.
        optimizer: a key of `model.step.optimizers.OPTIMIZERS`; `settings` are its fields.
        decayed: layers and the tensors of them ("weight", "bias") that the weight decay works on;
            None: whatever trains.
        clip_norm: the largest norm of all gradients.
        notices: what the file says and a run of TOD is told in another way.
    """

    loss: str
    optimizer: str
    settings: Mapping[str, Any]
    schedule: Schedule
    batch_size: int
    decayed: tuple[tuple[str, str], ...] | None
    clip_norm: float | None
    notices: tuple[str, ...] = field(default=())


def read(sections: Sequence[Section], layers: Sequence[Layer]) -> tuple[Recipe, list[Layer]]:
    """Read how a file trains; return the layers without the end that belongs to the loss.

    Raises:
        UsageError: a key or a value that is not known, missing or not supported.
    """
    by_name = {section.name: section for section in sections}
    first = layers[0].place
    if "model" not in by_name:
        raise Place(first.path, 1).wrong("it has no section [Model]", "it says loss and batch_size")
    model, optimizer = _without_optimizer(by_name["model"], by_name.get("optimizer"))
    if optimizer is None:
        raise model.place.wrong("there is no section [Optimizer]", "type = adam, adamw or sgd")
    values = keys.read(model, tables.MODEL, "[Model]")
    loss, kept = _loss(model, values["loss"], list(layers))
    name, given = _optimizer(optimizer)
    schedule, rate = _schedule(by_name.get("learningratescheduler"), optimizer, given)
    name, settings = _rule(name, given, rate)
    constant, decayed = _decay(kept, name, settings)
    if constant:
        settings["weight_decay"] = constant
    made = Recipe(
        loss, name, settings, schedule, values["batch_size"], decayed, _clip(kept),
        tuple(_notices(by_name, model)),
    )  # fmt: skip
    return made, kept


def _without_optimizer(model: Section, optimizer: Section | None) -> tuple[Section, Section | None]:
    """Older files have the optimizer's keys in [Model]."""
    moved = {name: item for name, item in model.items.items() if name in _OPTIMIZER_IN_MODEL}
    if not moved:
        return model, optimizer
    if optimizer is not None:
        name, item = next(iter(moved.items()))
        raise item.place.wrong(f"{name} stands here, and there is a section [Optimizer]")
    if "optimizer" in moved:
        moved["type"] = moved.pop("optimizer")
    rest = {name: item for name, item in model.items.items() if name not in _OPTIMIZER_IN_MODEL}
    return replace(model, items=rest), replace(model, items=moved)


def _loss(model: Section, said: str | None, layers: list[Layer]) -> tuple[str, list[Layer]]:
    """The loss, and the layers up to the logits."""
    end = layers[-1]
    if end.kind in LOSSES:
        if said is not None:
            raise end.place.wrong(f"a layer {end.kind}, and Loss = {said} in [Model]")
        said = end.kind
        layers = layers[:-1]
    if said is None:
        raise model.place.wrong("it has no loss", "loss = cross or mse")
    if not layers or any(layer.kind in LOSSES for layer in layers):
        raise end.place.wrong("a loss is the last layer, and one is enough")
    end = layers[-1]
    activation = end.values["activation"]
    if said == "cross":
        if activation not in ("softmax", "sigmoid"):
            raise end.place.wrong(
                f"Loss = cross after the activation {activation}",
                "end with activation = softmax (one class) or sigmoid (several)",
            )
        # The loss computes it, more exactly than one after the other.
        layers[-1] = replace(end, values={**end.values, "activation": "none"})
        said = f"cross_{activation}"
    return {"mse": "mse", "cross_softmax": "cross-entropy", "cross_sigmoid": "bce"}[said], layers


def _typed(section: Section, known: Mapping[str, keys.Table], what: str, default: str) -> str:
    item = section.items.get("type")
    name = default if item is None else item.value.lower()
    if name not in known:
        place = section.place if item is None else item.place
        raise place.wrong(f"there is no {what} '{name}'", near_names(name, list(known)))
    return name


def _optimizer(section: Section) -> tuple[str, dict[str, Any]]:
    name = _typed(section, tables.OPTIMIZERS, "optimizer", "adam")
    return name, keys.read(section, tables.OPTIMIZERS[name], f"the optimizer {name}")


def _rule(name: str, given: Mapping[str, Any], rate: float) -> tuple[str, dict[str, Any]]:
    """TOD's optimizer and its fields."""
    settings: dict[str, Any] = {"learning_rate": rate}
    if name == "sgd":
        return "sgd", settings | {"momentum": 0.0}
    settings |= {"beta1": given["beta1"], "beta2": given["beta2"], "eps": given["epsilon"]}
    if name == "adamw":
        settings["weight_decay"] = given["weight_decay"]
    if given["torch_ref"]:
        return name, settings
    if name == "adamw":
        settings["decoupled"] = given["weight_decay"] > 0
    return "keras-adam", settings


def _schedule(
    section: Section | None, optimizer: Section, given: Mapping[str, Any]
) -> tuple[Schedule, float]:
    """The schedule and its full rate."""
    if section is None:
        return _old_schedule(optimizer, given)
    for name in ("learning_rate", "decay_rate", "decay_steps"):
        if name in optimizer.items:
            raise optimizer.items[name].place.wrong(
                f"{name} stands here, and there is a section [LearningRateScheduler]"
            )
    kind = _typed(section, tables.SCHEDULERS, "learning-rate scheduler", "constant")
    v = keys.read(section, tables.SCHEDULERS[kind], f"the scheduler {kind}")
    if kind == "constant":
        return Schedule(), v["learning_rate"]
    if kind == "exponential":
        return _decayed(v), v["learning_rate"]
    if kind == "step":
        return _pieces(section, v)
    lr, floor = v["max_learning_rate"], v["min_learning_rate"]
    if floor > lr:
        raise section.place.wrong(f"min_learning_rate {floor:g} is above the largest, {lr:g}")
    return Schedule(kind, period=v["decay_steps"], floor=floor / lr), lr  # type: ignore[arg-type]


def _old_schedule(section: Section, given: Mapping[str, Any]) -> tuple[Schedule, float]:
    if given["learning_rate"] is None:
        raise section.place.wrong(
            "there is no learning rate", "add [LearningRateScheduler] with learning_rate"
        )
    if (given["decay_rate"] is None) != (given["decay_steps"] is None):
        raise section.place.wrong("decay_rate and decay_steps go together")
    schedule = Schedule() if given["decay_rate"] is None else _decayed(given)
    return schedule, given["learning_rate"]


def _decayed(v: Mapping[str, Any]) -> Schedule:
    return Schedule("exponential", gamma=min(v["decay_rate"], 1.0) ** (1 / v["decay_steps"]))


def _pieces(section: Section, v: Mapping[str, Any]) -> tuple[Schedule, float]:
    rates, ends = v["learning_rate"], v["iteration"]
    if len(rates) != len(ends) + 1:
        raise section.place.wrong(
            f"{len(rates)} learning rates for {len(ends)} iterations, wanted one more than those"
        )
    # A rate holds up to and with its iteration, which is counted from 0.
    made = Schedule(
        "pieces",
        at=tuple(end + 1 for end in ends),
        shares=tuple(rate / rates[0] for rate in rates[1:]),
    )
    if made.problem:
        raise section.place.wrong(f"iteration: {made.problem.replace('at', 'it', 1)}")
    return made, rates[0]


def _decay(
    layers: Sequence[Layer], optimizer: str, settings: Mapping[str, Any]
) -> tuple[float, tuple[tuple[str, str], ...] | None]:
    """The weight decay of the layers, and the tensors that it works on."""
    found: dict[tuple[str, str], float] = {}
    constants: dict[float, Layer] = {}
    for layer in layers:
        v = layer.values
        parts = {"weight": v.get("weight_decay") or 0.0, "bias": v.get("bias_decay") or 0.0}
        if any(parts.values()) and optimizer != "sgd":
            raise layer.place.wrong(
                "weight_decay and bias_decay of a layer are supported with the optimizer sgd only",
                "take weight_regularizer = l2norm, which is added to the gradient",
            )
        if v.get("weight_regularizer") == "l2norm":
            parts["weight"] += v["weight_regularizer_constant"]
        for tensor, constant in parts.items():
            if constant and v["trainable"]:
                found[layer.name, tensor] = constant
                constants.setdefault(constant, layer)
    of_optimizer = settings.get("weight_decay", 0.0)
    if of_optimizer and found:
        raise next(iter(constants.values())).place.wrong(
            "a weight_regularizer, and weight_decay of the optimizer", _MULTIPLIES
        )
    if len(constants) > 1:
        (one, _), (other, layer), *_ = constants.items()
        raise layer.place.wrong(f"its weights decay by {other:g}, others by {one:g}", _MULTIPLIES)
    if of_optimizer:
        return of_optimizer, None
    return next(iter(constants), 0.0), tuple(found)


def _clip(layers: Sequence[Layer]) -> float | None:
    given = {
        layer.values["clip_grad_by_norm"]: layer
        for layer in layers
        if layer.values["trainable"] and ("weight_initializer" in layer.values
                                          or "gamma_initializer" in layer.values)
    }  # fmt: skip
    if len(given) > 1:
        layer = next(layer for norm, layer in given.items() if norm is not None)
        raise layer.place.wrong(
            "clip_grad_by_norm is not the same in all layers that train",
            "give it to all of them: TOD clips the norm of all gradients",
        )
    norm: float | None = next(iter(given), None)
    return norm


def _notices(by_name: Mapping[str, Section], model: Section) -> list[str]:
    """What a run decides, and no file."""
    told = []
    if "epochs" in model.items:
        epochs, batch = model.items["epochs"].value, model.items.get("batch_size")
        size = batch.value if batch else 1
        told.append(
            f"epochs = {epochs} belongs to a run: net_runner -c N, with N = {epochs} x samples of "
            f"the train split / {size}"
        )
    paths = [name for name in ("save_path", "save_best_path") if name in model.items]
    if paths:
        told.append(f"{' and '.join(paths)}: net_runner -o says where the trained model goes")
    for name in ("train_set", "valid_set", "test_set", "dataset"):
        if name in by_name:
            keys.read(by_name[name], tables.DATA, f"[{name}]")
            told.append(f"[{name}]: net_runner -d says what it trains on")
    return told
