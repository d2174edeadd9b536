"""Files that only their owner may read, for stores of what others must not see.

Examples
--------
>>> import os, tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     oct(os.stat(private(f"{folder}/answers.db")).st_mode & 0o777), private(":memory:")
('0o600', ':memory:')
"""

from __future__ import annotations

import os
from pathlib import Path


def private(path: Path | str) -> Path | str:
    """Make a file if need be, take it from everybody but its owner, and return its path.

    What SQLite puts beside a file has the file's mode. ``":memory:"`` is returned as it is.

    Raises
    ------
    OSError
        If the file cannot be made, or is somebody else's.
    """
    if str(path) != ":memory:":
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(path, 0o600)
    return path
