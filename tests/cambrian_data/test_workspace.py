from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from cambrian_data.build import Build, published
from cambrian_data.records import bytes_id
from cambrian_data.units import Units
from cambrian_data.workspace import (
    Workspace,
    WorkspaceError,
    check_name,
    slug,
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run_python(code: str, *arguments: object, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], text=True, **options
    )


# ----------------------------------------------------------------------------- folders


def test_names_that_could_leave_the_workspace_are_refused(workspace):
    for name in ("..", "a/b", "", ".hidden", "a b", "x" * 101, "a\nb"):
        with pytest.raises(WorkspaceError, match="cannot be used as a name"):
            workspace.pool(name)
    assert check_name("engine-physics_1.0") == "engine-physics_1.0"


def test_slug():
    assert slug("Simple Pendulum!") == "simple-pendulum"
    assert slug("Физика") == "run"


def test_a_file_in_the_way_is_explained(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkspaceError, match="file"):
        Workspace.create(tmp_path / "file")
    with pytest.raises(WorkspaceError, match="file"):
        Workspace.create(tmp_path / "file" / "below")


def test_a_full_disk_is_explained_before_a_run_starts(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=3 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(WorkspaceError, match="only 3 MiB are free"):
        Workspace.create(tmp_path / "ws")


def test_a_workspace_that_is_not_there_is_explained(tmp_path):
    with pytest.raises(WorkspaceError, match="cambrian demo"):
        Workspace.existing(tmp_path / "nowhere")


def test_creating_twice_changes_nothing(workspace):
    before = files_of(workspace.root)
    Workspace.create(workspace.root)
    assert files_of(workspace.root) == before


# ----------------------------------------------------------------------------- writing


def test_equal_tables_give_equal_bytes(workspace):
    table = pa.table({"a": list(range(1000)), "b": ["x"] * 1000})
    for name in ("one", "two"):
        workspace.write_table(workspace.root / name, table)
    assert (workspace.root / "one").read_bytes() == (workspace.root / "two").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_rest(workspace, monkeypatch):
    path = workspace.root / "file"
    workspace.write_bytes(path, b"old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        workspace.write_bytes(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(workspace.tmp.iterdir()) == []


def test_what_a_dead_process_left_is_swept_and_a_living_one_keeps_its_own(workspace):
    dead = run_python("import os; print(os.getpid())", stdout=subprocess.PIPE)
    pid = int(dead.communicate()[0])
    mine = workspace.scratch()
    theirs = mine.with_name(mine.name.replace(str(os.getpid()), str(pid)))
    other_host = workspace.tmp / f"another-host-{pid}-0"
    for path in (mine, theirs, other_host):
        path.write_text("rest")
    Workspace.create(workspace.root)
    assert mine.exists() and other_host.exists() and not theirs.exists()


def test_pictures_are_named_by_their_content_and_mended(workspace):
    sha256, path = workspace.store_picture(b"picture", "png")
    assert sha256 == bytes_id(b"picture")
    assert workspace.relative(path) == f"images/{sha256[:2]}/{sha256}.png"
    path.write_bytes(b"damaged")
    workspace.store_picture(b"picture", "png")
    assert path.read_bytes() == b"picture"


# ------------------------------------------------------------------------------- locks

HOLD = """
import sys, time
from cambrian_data.workspace import Workspace
with Workspace(sys.argv[1]).lock("thing"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_free_again_after_kill_9(workspace):
    holder = run_python(HOLD, workspace.root, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == "held\n"
    said: list[str] = []
    killer = threading.Timer(0.5, holder.kill)
    killer.start()
    with workspace.lock("thing", said.append):
        assert holder.wait() == -9
    assert len(said) == 1 and str(holder.pid) in said[0] and "thing" in said[0]


def test_locks_keep_processes_apart(workspace):
    """Four processes add one to a number fifty times each; unlocked, additions are lost."""
    (workspace.root / "number").write_text("0")
    code = """
    import sys
    from pathlib import Path
    from cambrian_data.workspace import Workspace
    ws = Workspace(sys.argv[1])
    for _ in range(50):
        with ws.lock("number"):
            value = int((ws.root / "number").read_text())
            (ws.root / "number").write_text(str(value + 1))
    """
    processes = [run_python(code, workspace.root) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (workspace.root / "number").read_text() == "200"


# ------------------------------------------------------------------------------- builds


def fill(build: Build, text: str) -> Path:
    folder = build.folder()
    build.workspace.write_bytes(folder / "sub" / "a.txt", text.encode())
    build.workspace.write_bytes(folder / "b.txt", b"b")
    return build.publish({"n": 1})


def test_a_build_appears_whole_and_is_known_again(workspace):
    build = Build(workspace, workspace.mixture("m"), "key1" * 8)
    assert not build.is_done()
    folder = build.folder()
    assert not build.target.exists() and folder != build.target
    fill(build, "one")
    assert build.is_done() and not folder.exists()
    assert published(build.target)["about"] == {"n": 1}
    assert not Build(workspace, build.target, "key2" * 8).is_done()


def test_another_key_replaces_the_folder_as_a_whole(workspace):
    fill(Build(workspace, workspace.mixture("m"), "key1" * 8), "one")
    second = Build(workspace, workspace.mixture("m"), "key2" * 8)
    workspace.write_bytes(second.folder() / "only.txt", b"two")
    assert (second.target / "b.txt").exists()  # the old one stays until the new one is whole
    second.publish()
    assert set(files_of(second.target)) == {"only.txt", "manifest.json"}
    assert list(workspace.tmp.iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "edit", "list"])
def test_damage_is_found_and_mended(workspace, damage):
    build = Build(workspace, workspace.mixture("m"), "key1" * 8)
    target = fill(build, "one")
    before = files_of(target)
    victim = target / ("manifest.json" if damage == "manifest" else "sub/a.txt")
    if damage == "remove":
        victim.unlink()
    elif damage == "edit":  # still JSON, but a number of it was changed by hand
        victim = target / "manifest.json"
        victim.write_bytes(victim.read_bytes().replace(b'"n": 1', b'"n": 2'))
    elif damage == "list":
        (target / "manifest.json").write_bytes(b"[1, 2]")
    elif damage == "cut":
        victim.write_bytes(victim.read_bytes()[:-1])
    else:
        data = bytearray(victim.read_bytes())
        data[0] ^= 1
        victim.write_bytes(data)
    assert not build.is_done()
    with pytest.raises(WorkspaceError, match=r"again"):
        published(target)
    fill(build, "one")
    assert files_of(target) == before and build.is_done()


def test_a_lost_picture_makes_its_data_set_incomplete(workspace):
    """Pictures lie outside the folder; the units that name them count."""
    build = Build(workspace, workspace.pool("p"), "key1" * 8)
    _, picture = workspace.store_picture(b"picture", "png")
    units = Units(workspace, build.folder(), "ingest", version="1", config=None)
    units.commit(units.key("a"), {}, pictures=[picture])
    build.publish()
    assert build.is_done()
    picture.unlink()
    assert not build.is_done()


def test_a_damaged_empty_part_is_written_again(workspace):
    part = workspace.root / "pool" / "_empty" / "samples" / "part-empty.parquet"
    before = part.read_bytes()
    part.write_bytes(before[:-3])
    Workspace.create(workspace.root)
    assert part.read_bytes() == before


@pytest.mark.parametrize("name", ["what?", "bad\udcff"])
def test_paths_that_duckdb_cannot_open_are_refused(tmp_path, name):
    with pytest.raises(WorkspaceError, match="--workspace"):
        Workspace.create(tmp_path / name)


def test_a_folder_that_was_not_finished_is_explained(workspace):
    with pytest.raises(WorkspaceError, match="not finished"):
        published(workspace.pool("nothing"))


KILLED_BUILD = """
import os, signal, sys
from cambrian_data.build import Build
from cambrian_data.workspace import Workspace
ws = Workspace(sys.argv[1])
stop = int(sys.argv[2])
steps = 0
import pathlib
real = pathlib.Path.replace
def replace(self, target):
    global steps
    if steps == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    steps += 1
    return real(self, target)
pathlib.Path.replace = replace
build = Build(ws, ws.mixture("m"), "key2" * 8)
if not build.is_done():
    folder = build.folder()
    for n in range(3):
        if not (folder / f"{n}.txt").exists():
            ws.write_bytes(folder / f"{n}.txt", b"new %d" % n)
    build.publish()
print("done")
"""


def test_killed_before_any_rename_the_next_run_ends_the_same(tmp_path):
    """A build replaces an older one and is killed before its first, second, ... rename."""
    results = set()
    for stop in range(8):
        workspace = Workspace.create(tmp_path / f"ws{stop}")
        fill(Build(workspace, workspace.mixture("m"), "key1" * 8), "one")
        first = run_python(KILLED_BUILD, workspace.root, stop, stdout=subprocess.DEVNULL)
        killed = first.wait() == -9
        assert killed == (stop < 6)  # three files, the manifest, two folder renames
        again = run_python(KILLED_BUILD, workspace.root, 99, stdout=subprocess.DEVNULL)
        assert again.wait() == 0
        Workspace.create(workspace.root)
        assert list(workspace.tmp.iterdir()) == []
        results.add(tuple(sorted(files_of(workspace.mixture("m")).items())))
    assert len(results) == 1


def test_readers_never_see_a_mix(workspace):
    """While a folder is swapped a hundred times, a reader sees one state or the other."""
    target = workspace.mixture("m")
    for number in range(2):
        fill(Build(workspace, target, f"{number}" * 32), str(number))
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            try:
                with (target / "sub" / "a.txt").open() as file:
                    seen.append(int(file.read()))
            except FileNotFoundError:
                time.sleep(0)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        fill(Build(workspace, target, f"{number % 2}" * 32), str(number % 2))
    stop.set()
    reader.join()
    assert set(seen) <= {0, 1}
