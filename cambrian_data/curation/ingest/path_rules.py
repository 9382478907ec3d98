"""How the paths of a set's pictures differ from the paths of the files that one has.

Prefixes and folders are rewritten as text, before anything is looked up; case and suffix are
settled by what is found.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from cambrian_data.recipes import Config

PATH_MENDS = {
    "path_rule": "a picture's path changed by a rule (prefix stripped, folder renamed)",
    "path_case": "a picture found under its name in other upper and lower case",
    "path_extension": "a picture found with another suffix",
}
"""What is changed in a path so that its picture is found."""


class PathRules(Config):
    """How a row's picture path becomes the path of a file."""

    strip_prefixes: list[str] = Field(default_factory=list)
    """Beginnings that are taken off, such as `mnt/disks/data`; the first that fits, whole folders
    only. A leading slash does not matter."""
    renames: dict[str, str] = Field(default_factory=dict)
    """Folder to folder, such as `sbu558k: sbu`; the first that fits the path's beginning. An empty
    target takes the folder away."""
    ignore_case: bool = True
    """Whether a file whose name differs in case alone is taken where the exact one is missing."""
    extensions: list[str] = Field(default_factory=list)
    """Other suffixes that are tried, in order, where the file is missing: `[".jpg", ".png"]`."""

    follow_links: bool = False
    """Whether a symbolic link in the image folder may lead out of it."""

    @field_validator("extensions")
    @classmethod
    def _check_extensions(cls, given: list[str]) -> list[str]:
        for suffix in given:
            if not suffix.startswith(".") or "/" in suffix:
                raise ValueError(f"a suffix begins with a dot, such as .jpg, not {suffix!r}")
        return given

    @field_validator("strip_prefixes")
    @classmethod
    def _check_prefixes(cls, given: list[str]) -> list[str]:
        for prefix in given:
            if not prefix.strip("/"):
                raise ValueError(f"the prefix {prefix!r} names no folder")
        return given

    @field_validator("renames")
    @classmethod
    def _check_renames(cls, given: dict[str, str]) -> dict[str, str]:
        for old, new in given.items():
            if not old.strip("/"):
                raise ValueError(f"the renamed folder {old!r} names no folder")
            if ".." in new.split("/") or new.startswith("/"):
                raise ValueError(f"{new!r} leads out of the image folder; give a folder within it")
        return given

    def apply(self, path: str) -> str:
        """Return a path with its prefix stripped and its folder renamed; else as it is."""
        for prefix in self.strip_prefixes:
            rest = _below(path.lstrip("/"), prefix)
            if rest is not None:
                path = rest
                break
        for old, new in self.renames.items():
            rest = _below(path, old)
            if rest is not None:
                return f"{new.strip('/')}/{rest}" if new.strip("/") else rest
        return path


def _below(path: str, folder: str) -> str | None:
    """Return what of a path is below a folder; None where it is not below it."""
    start = folder.strip("/") + "/"
    return path[len(start) :] if path.startswith(start) and len(path) > len(start) else None
