"""Samples as WebDataset tar files: the mixture's own shards where they are there, else packed now.

The files are those that `cambrian data curate` makes; equal samples give equal bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from cambrian_data.build import MANIFEST, Build
from cambrian_data.export.card import dataset_card
from cambrian_data.export.folder import (
    Account,
    Images,
    Kind,
    Samples,
    filled_aside,
    find_samples,
    link_or_copy,
    result,
    target_folder,
    write_about,
)
from cambrian_data.packing import SHARDS_VERSION, plan_packing, publish_shards
from cambrian_data.records import Progress, content_id, silent
from cambrian_data.shards import INDEX_NAME, ShardError, ShardsConfig, read_index
from cambrian_data.units import Stage, Unit
from cambrian_data.workspace import Workspace, file_sha256, read_sealed, remove


def export_webdataset(
    workspace: Workspace,
    name: str,
    out: Path | None = None,
    *,
    images: Images = "copy",
    kind: Kind | None = None,
    config: ShardsConfig | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a folder of tar files with their index and a dataset card.

    Args:
        images: copy (hard links on one file system), or link (symbolic links to the mixture's
            shards; files that are packed for this export are always the folder's own).
        config: sizes of files that are packed now; the mixture's own shards are taken as they are
            where none is given.
    Returns:
        dataset, kind, to, folder, files, samples, pictures, text_only, left_out, bytes.
    Raises:
        UserError, WorkspaceError, RunFailed: as `export_llava`.
    """
    samples = find_samples(workspace, name, kind)
    target = target_folder(workspace, name, out)
    with (
        workspace.lock(f"exports-{name}", lambda note: progress(note, 0, None)),
        filled_aside(target) as folder,
    ):
        own = _own_shards(workspace, samples) if config is None else None
        packed = own or _pack(workspace, samples, config or ShardsConfig(), progress)
        try:
            index = read_index(packed)
            for number, entry in enumerate(index["shards"], start=1):
                _take(
                    packed / entry["file"],
                    folder,
                    entry["sha256"],
                    is_link=images == "link" and own is not None,
                )
                progress("export", number, len(index["shards"]))
            shutil.copyfile(packed / INDEX_NAME, folder / INDEX_NAME)
        finally:
            if own is None:
                remove(packed)
        account = _account(index)
        account.check(name, samples.total)
        card = dataset_card(workspace, samples, account, to="webdataset")
        (folder / "README.md").write_text(card, encoding="utf-8")
        about = {"dataset": name, "kind": samples.kind, "to": "webdataset", "images": images}
        write_about(folder, about, account)
    return result(samples, "webdataset", target, account, files=len(index["shards"]))


def _own_shards(workspace: Workspace, samples: Samples) -> Path | None:
    """Return the folder of the mixture's shards; None where there are none of this very mixture."""
    folder = workspace.shards(samples.name)
    made, mixture = read_sealed(folder / MANIFEST), read_sealed(samples.folder / MANIFEST)
    if samples.kind != "mixture" or made is None or mixture is None:
        return None
    is_same = made["about"].get("mixture") == mixture["key"]
    return folder if is_same and not read_index(folder)["dropped"] else None


def _pack(workspace: Workspace, samples: Samples, config: ShardsConfig, progress: Progress) -> Path:
    """Pack the samples into a folder of the workspace, which the caller removes."""
    state = read_sealed(samples.folder / MANIFEST) or {}
    key = content_id("export", state.get("key"), config.model_dump(mode="json"), SHARDS_VERSION)
    build = Build(workspace, workspace.root / "exports" / f".{samples.name}.packed", key)
    packing = plan_packing(workspace, build, samples.folder, config, 0)
    cut = packing.cut(_run(packing.sort_stage(), packing.parts(), progress))
    units = _run(packing.write_stage(), cut.pieces, progress)
    publish_shards(packing, samples.name, cut, units)
    return build.target


def _run(stage: Stage, pieces: list[Any], progress: Progress) -> list[Unit]:
    units = []
    for number, piece in enumerate(pieces, start=1):
        units.append(stage.finished(piece) or stage.run(piece))
        progress(stage.name, number, len(pieces))
    return units


def _take(source: Path, folder: Path, sha256: str, *, is_link: bool) -> None:
    """Put a shard into the folder.

    Raises:
        ShardError: it is not what the index says.
    """
    if file_sha256(source) != sha256:
        raise ShardError(
            f"{source} is damaged: its sha256 is not the one in {INDEX_NAME}; run the command "
            "that made the shards again, it makes only what is damaged anew"
        )
    if is_link:
        (folder / source.name).symlink_to(source)
    else:
        link_or_copy(source, folder / source.name)


def _account(index: dict[str, Any]) -> Account:
    account = Account(
        samples=index["samples"],
        pictures=index["pictures"],
        text_only=index["text_only"],
        num_bytes=index["bytes"],
    )
    for row in index["dropped"]:
        account.leave_out(row["id"], row["detail"])
    for sample in (index.get("ranks") or {}).get("left_over", ()):
        account.leave_out(sample, "left over: every rank gets the same number of samples")
    return account
