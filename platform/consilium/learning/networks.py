"""Builds the networks that the registry names, and moves their parameters to and from one (P,) vector.

Imported by the vault only: everything else knows parameters as a vector with a layout table.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from consilium.learning.parameters import ModelFile
from consilium.learning.registry import with_defaults

CHANNELS_IN = 4
REGIONS = 3
HEADS = {"segresnet": "conv_final", "unet": "model.2"}
"""The last module of each network: what a charter trains alone over a frozen backbone."""
PRIOR = 0.05
"""The untrained network's output probability: tumours are rare, so training starts near 'none'."""


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network: (B, 4, I, J, K) z-scored contrasts → (B, 3, I, J, K) logits of TC, WT, ET.

    Raises:
        ValueError: the registry does not know the name, or an argument breaks its rule.
    """
    full = with_defaults(name, arguments)
    if name == "unet":
        return _unet(full)
    if name == "segresnet":
        return _segresnet(full)
    raise ValueError(f"model {name!r}: has no network; the toy model belongs to tests of the path")


def new_model(name: str, arguments: Mapping[str, Any], seed: int) -> ModelFile:
    """A model file with freshly drawn parameters; equal arguments give equal bytes on one torch version.

    The toy model is `size` zeros and needs no network.
    """
    full = with_defaults(name, arguments)
    if name == "toy":
        size = int(full["size"])
        return ModelFile(name, full, (("point", (size,)),), np.zeros(size, np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(name, full)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in full.items()}
    layout = tuple((key, tuple(value.shape)) for key, value in network.named_parameters())
    return ModelFile(name, plain, layout, flatten(network))


def flatten(network: nn.Module) -> NDArray[np.float32]:
    """All parameters end to end as (P,) float32, in the order of `named_parameters`."""
    flat = torch.cat([value.detach().reshape(-1).float().cpu() for value in network.parameters()])
    return np.asarray(flat.numpy(), np.float32)


def flat_gradient(network: nn.Module) -> NDArray[np.float32]:
    """The gradients of all parameters end to end as (P,) float32; zeros where there is none."""
    flat = torch.cat(
        [
            (torch.zeros_like(value) if value.grad is None else value.grad).reshape(-1).float().cpu()
            for value in network.parameters()
        ]
    )
    return np.asarray(flat.numpy(), np.float32)


def load(network: nn.Module, vector: NDArray[np.float32]) -> None:
    """Copy (P,) into the network. Raises `ValueError` if P differs."""
    size = sum(value.numel() for value in network.parameters())
    if vector.shape != (size,):
        raise ValueError(f"vector of {vector.size} parameters for a network of {size}")
    start = 0
    with torch.no_grad():
        for value in network.parameters():
            part = torch.tensor(vector[start : start + value.numel()])
            value.copy_(part.reshape(value.shape))
            start += value.numel()


def new_head(backbone: ModelFile, seed: int) -> ModelFile:
    """A model file with the backbone's parameters frozen and a freshly drawn head to train.

    Raises:
        ValueError: the backbone has a frozen part itself, or its network has no head.
    """
    if backbone.frozen.size or backbone.name not in HEADS:
        raise ValueError(
            f"backbone {backbone.name!r}: must be a whole trained network, one of {', '.join(HEADS)}"
        )
    drawn = new_model(backbone.name, backbone.arguments, seed)
    network = build(backbone.name, backbone.arguments)
    load(network, drawn.parameters)
    head = head_of(backbone.name, network)
    layout = tuple((key, tuple(value.shape)) for key, value in head.named_parameters())
    trained = flatten(head)
    load(network, backbone.parameters)
    body = body_of(backbone.name, network)
    return ModelFile(backbone.name, drawn.arguments, layout, trained, {}, flatten(body))


def head_of(name: str, network: nn.Module) -> nn.Module:
    """The network's last module; training it changes the network."""
    return network.get_submodule(HEADS[name])


def body_of(name: str, network: nn.Module) -> nn.Module:
    """A network that shares all parameters with this one and ends before its head, (B, F, i, j, k)."""
    body = copy.deepcopy(network)
    for ours, theirs in zip(body.named_modules(), network.named_modules(), strict=True):
        for key, value in theirs[1].named_parameters(recurse=False):
            ours[1].register_parameter(key, value)
    body.set_submodule(HEADS[name], nn.Identity())
    return body


def whole(model: ModelFile) -> nn.Module:
    """The network of a model file with all its parameters, trained and frozen.

    Raises:
        ValueError: the registry does not know the network, or the parameters do not fit it.
    """
    network = build(model.name, model.arguments)
    if not model.frozen.size:
        load(network, model.parameters)
        return network
    load(head_of(model.name, network), model.parameters)
    load(body_of(model.name, network), model.frozen)
    return network


def _unet(arguments: Mapping[str, Any]) -> nn.Module:
    from monai.networks.nets import UNet

    channels = tuple(arguments["channels"])
    network = UNet(
        spatial_dims=3,
        in_channels=CHANNELS_IN,
        out_channels=REGIONS,
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        num_res_units=arguments["residual_units"],
        norm=_norm(arguments["norm"], 1),
    )
    return _with_prior(network)


def _segresnet(arguments: Mapping[str, Any]) -> nn.Module:
    from monai.networks.nets import SegResNet

    filters = arguments["filters"]
    network = SegResNet(
        spatial_dims=3,
        in_channels=CHANNELS_IN,
        out_channels=REGIONS,
        init_filters=filters,
        norm=_norm(arguments["norm"], 8 if filters % 8 == 0 else 1),
    )
    return _with_prior(network)


def _norm(name: str, groups: int) -> tuple[str, dict[str, Any]]:
    """Group or instance norm: neither keeps running statistics, so nothing but parameters travels.

    MONAI's UNet normalises its three output channels too, so its group norm has one group.
    """
    return ("INSTANCE", {"affine": False}) if name == "instance" else ("GROUP", {"num_groups": groups})


def _with_prior(network: nn.Module) -> nn.Module:
    """Set the last convolution's bias so that the mean logit of the untrained network is that of `PRIOR`."""
    last = [module for module in network.modules() if isinstance(module, nn.Conv3d | nn.ConvTranspose3d)][-1]
    if last.bias is not None:
        nn.init.constant_(last.bias, float(np.log(PRIOR / (1 - PRIOR))))
    return network
