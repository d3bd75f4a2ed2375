"""Prediction of one case: from a folder to a NIfTI label map on the case's own grid and affine."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from consilium.errors import InputError
from consilium.learning import networks
from consilium.learning.parameters import read_model
from consilium.vocabulary import Region
from consilium_site.evaluation import predict_masks
from consilium_site.imaging.brats import find_case, label_map
from consilium_site.imaging.case import read_case
from consilium_site.imaging.recipe import restore, transform


def predict_case(model_file: Path, folder: Path, out: Path) -> dict[Region, float]:
    """Write the label map (uint8, labels of the case's own year) and return the regions' volumes in ml.

    Shape and affine are the case's own. A label map in the folder is not looked at.

    Raises:
        InputError: the model file or `out`'s name is no good, or the folder is missing.
        CaseError: the case is broken; names what and why.
    """
    if not out.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{out}: the label map's name must end in .nii or .nii.gz")
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; name one case's folder")
    model = read_model(model_file)
    try:
        network = networks.whole(model)
    except ValueError as error:
        raise InputError(f"{model_file}: {error}") from None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    case = read_case(find_case(folder, labelled=False))
    images, _, way = transform(case, float(model.facts.get("spacing_mm", 1.0)))
    masks = restore(
        predict_masks(network.to(device), images, device, device.type == "cuda"), way, case.affine
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(label_map(masks, case.files.convention), case.affine), out)
    millilitres = float(abs(np.linalg.det(case.affine[:3, :3]))) / 1000.0
    return {region: float(mask.sum()) * millilitres for region, mask in zip(Region, masks, strict=True)}
