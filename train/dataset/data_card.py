"""The card of a prepared data set, and the hash of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import Group
from rsna_lumbar.train.dataset.prepare import CARD
from rsna_lumbar.train.dataset.split import PARTS


def read_card(folder: Path, group: Group) -> Mapping[str, Any]:
    """The card of a prepared data set.

    Raises:
        DataError: it is missing, damaged or describes another group, or a part has no image.
    """
    path = folder / CARD
    try:
        card = json.loads(path.read_bytes())
        found, images = card["group"], [card["images"][part] for part in PARTS]
    except FileNotFoundError:
        raise DataError(
            f"{folder} is not a finished data set; make it with rsna-train prepare"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; make the data set again") from error
    if found != group.name:
        raise DataError(f"{path} describes {found}, not {group.name}")
    if not all(images):
        raise DataError(
            f"{folder} has {images[0]} training and {images[1]} validation images; both are needed"
        )
    return dict(card)


def data_sha256(folder: Path) -> str:
    """SHA-256 over names and contents of images, labels and data.yaml."""
    digest = hashlib.sha256()
    files = [folder / "data.yaml", *folder.glob("images/*/*.png"), *folder.glob("labels/*/*.txt")]
    for path in sorted(files):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
