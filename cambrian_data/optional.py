"""Optional packages: asked for where they are needed, with the line that installs them."""

from __future__ import annotations

import importlib.util

from cambrian_data.records import UserError


def require(*packages: str, extra: str) -> None:
    """Raise unless packages are installed.

    Raises:
        UserError: one is missing; the message gives the pip line.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)} is needed for this and not installed: "
            f"pip install 'cambrian[{extra}]'"
        )
