"""Builds the networks that the registry names, and moves their parameters to and from one (P,) vector.

Imported by the vault only: everything else knows parameters as a vector with a layout table.
"""

from __future__ import annotations

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
