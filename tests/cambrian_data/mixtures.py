"""Mixtures for tests of shards: samples with pictures, written as curation leaves them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from cambrian_data.build import Build
from cambrian_data.packing import Cut, Packing, plan_packing, publish_shards
from cambrian_data.records import content_id, sample_id
from cambrian_data.shards import ShardsConfig
from cambrian_data.units import Stage, Unit, Units
from cambrian_data.workspace import Workspace


def picture(number: int, format: str = "PNG", side: int = 24) -> bytes:
    """Return a small picture that no other number gives."""
    image = Image.new("RGB", (side, side + number % 7), (number % 256, number // 256 % 256, 90))
    image.putpixel((number % side, 3), (255, number % 200, 0))
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def row(
    workspace: Workspace, number: int, *pictures: bytes, suffix: str = "png", **values: Any
) -> dict[str, Any]:
    """Return a sample whose pictures are stored in the workspace."""
    images = []
    for data in pictures:
        sha256, path = workspace.store_picture(data, suffix)
        with Image.open(io.BytesIO(data)) as image:
            size = {"width": image.width, "height": image.height}
        images.append({"sha256": sha256, "path": workspace.relative(path), **size})
    turns = [
        {"from": "human", "value": "<image>\n" * len(images) + f"What is {number}? \u00e9"},
        {"from": "gpt", "value": f"It is {number}, and that is all."},
    ]
    return {
        "id": sample_id(turns, images),
        "source": f"source-{number % 3}",
        "dataset": "tests",
        "category": "general",
        "images": images,
        "conversations": turns,
        **values,
    }


def mixed_rows(workspace: Workspace, count: int) -> list[dict[str, Any]]:
    """Return samples of all kinds: text only, one picture or several, PNG and JPEG."""
    rows = []
    for number in range(count):
        kind = number % 5
        if kind == 0:
            rows.append(row(workspace, number))
        elif kind == 1:
            jpeg = picture(number, "JPEG")
            rows.append(row(workspace, number, jpeg, suffix="jpg", system="Be brief."))
        elif kind == 2:
            provenance = {"page_id": "p", "section": ["a", "b"], "hit_rank": 2}
            rows.append(
                row(workspace, number, picture(number), provenance=provenance, figure_id="f")
            )
        elif kind == 3:
            rows.append(row(workspace, number, picture(number), picture(number + 1)))
        else:
            rows.append(row(workspace, number, picture(number)))
    return rows


def write_mixture(
    workspace: Workspace, rows: Sequence[dict[str, Any]], name: str = "mix", part_rows: int = 7
) -> Path:
    """Write rows as a published mixture of several parts; its key is the rows' hash."""
    key = content_id(name, part_rows, [[one["id"], one.get("system")] for one in rows])
    build = Build(workspace, workspace.mixture(name), key)
    if not build.is_done():
        units = Units(workspace, build.folder(), "curate", version="1", config=key)
        for number, start in enumerate(range(0, len(rows), part_rows)):
            units.commit(units.key(number), {"samples": rows[start : start + part_rows]})
        build.publish()
    return build.target


def packing_of(
    workspace: Workspace, config: ShardsConfig, name: str = "mix", seed: int = 0
) -> Packing:
    """Return the packing of a mixture that `write_mixture` wrote."""
    mixture = workspace.mixture(name)
    manifest = (mixture / "manifest.json").read_text()
    key = content_id(manifest, config.model_dump(mode="json"), seed)
    build = Build(workspace, workspace.shards(name), key)
    return plan_packing(workspace, build, mixture, config, seed)


def run_stage(stage: Stage, pieces: Sequence[Sequence[Any]]) -> list[Unit]:
    """Make the units of a stage that are not done, as a flow does."""
    units = [stage.finished(piece) or stage.run(piece) for piece in pieces]
    stage.units.keep_only(unit.key for unit in units)
    return units


def cut_of(packing: Packing) -> Cut:
    """Run the first stage and cut."""
    return packing.cut(run_stage(packing.sort_stage(), packing.parts()))


def pack(
    workspace: Workspace, config: ShardsConfig, name: str = "mix", seed: int = 0
) -> dict[str, Any]:
    """Pack a mixture whole, in this thread; return the index."""
    packing = packing_of(workspace, config, name, seed)
    cut = cut_of(packing)
    units = run_stage(packing.write_stage(), cut.pieces)
    return publish_shards(packing, name, cut, units)
