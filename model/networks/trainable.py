"""Choose the parameters that train: the head, the last blocks, all, or names that match
patterns."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import nn

from model.transfer_net import TransferNet
from tod.errors import UsageError
from tod.system.names import near_names

HEAD, BACKBONE = "head.", "backbone."


def names(net: TransferNet, wanted: str, *, head_name: str = "") -> list[str]:
    """Return the names of the parameters that `wanted` means, in the network's order.

    Args:
        net: backbone and head.
        wanted: "head"; "last:K", the last K blocks of the backbone and all after them; "all"; or
            patterns separated by commas, such as 'features.17.*,classifier.*', which are matched
            with the backbone's own names and with the full names ('head.*').
        head_name: the backbone's name for the layer that the head replaces, such as "classifier".

    Raises:
        UsageError: `wanted` matches nothing in this network.
    """
    every = [name for name, _ in net.named_parameters()]
    if wanted == "all":
        return every
    if wanted == "head":
        return [name for name in every if name.startswith(HEAD)]
    if wanted.startswith("last:"):
        modules = _last_blocks(net.backbone, wanted.removeprefix("last:"))
        chosen = [HEAD, *(f"{BACKBONE}{module}." for module in modules)]
        return [name for name in every if name.startswith(tuple(chosen))]
    aliases = {name: _aliases(name, head_name) for name in every}
    found: set[str] = set()
    for pattern in (part.strip() for part in wanted.split(",")):
        hits = {n for n in every if any(fnmatch.fnmatchcase(a, pattern) for a in aliases[n])}
        if not hits:
            known = [aliases[name][-1] for name in every]
            raise UsageError(
                f"--trainable: no parameter is called '{pattern}'",
                hint=f"{near_names(pattern, known)}; or give head, last:K or all",
            )
        found |= hits
    return [name for name in every if name in found]


def _aliases(name: str, head_name: str) -> list[str]:
    if name.startswith(HEAD):
        return [name, f"{head_name}.{name.removeprefix(HEAD)}"] if head_name else [name]
    return [name, name.removeprefix(BACKBONE)]


def _last_blocks(backbone: nn.Module, count: str) -> list[str]:
    every = blocks(backbone)
    if not count.isdecimal() or not 1 <= int(count) <= len(every):
        raise UsageError(
            f"--trainable last:{count}: this backbone has {len(every)} blocks",
            hint=f"give last:1 to last:{len(every)}, or all",
        )
    return [name for block in every[-int(count) :] for name in block]


def blocks(backbone: nn.Module) -> list[tuple[str, ...]]:
    """The backbone's blocks in order, each as the dotted names of its modules.

    Containers that hold composite modules are opened. A single layer between blocks belongs to the
    block before it; the first layers form a block.
    """
    found: list[list[str]] = []
    for name, module in _parts(backbone, "", wrapper=True):
        if _is_composite(module) or not found:
            found.append([name])
        else:
            found[-1].append(name)
    return [tuple(names) for names in found]


def _parts(
    module: nn.Module, prefix: str, *, wrapper: bool = False
) -> Sequence[tuple[str, nn.Module]]:
    children = [
        (f"{prefix}{name}", child)
        for name, child in module.named_children()
        if any(True for _ in child.parameters())
    ]
    composite = [child for _, child in children if _is_composite(child)]
    parts: list[tuple[str, nn.Module]] = []
    for name, child in children:
        container = isinstance(child, nn.Sequential | nn.ModuleList)
        holds = any(_is_composite(grandchild) for grandchild in child.children())
        # A module that is the only composite one at the top is a wrapper around the blocks.
        only = wrapper and composite == [child]
        if holds and (container or only):
            parts += _parts(child, f"{name}.", wrapper=only)
        else:
            parts.append((name, child))
    return parts


def _is_composite(module: nn.Module) -> bool:
    owners = [part for part in module.modules() if list(part.parameters(recurse=False))]
    return len(owners) > 1
