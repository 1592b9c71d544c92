"""A progress bar for people; the same lines as JSON are for machines."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


@contextlib.contextmanager
def bar() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Shows progress lines as a bar on the terminal and prints every other line as JSON."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console()) as progress:
        task = progress.add_task("listing", total=None)

        def show(line: Mapping[str, Any]) -> None:
            if line.get("event") != "progress":
                progress.console.print(json.dumps(line), highlight=False, markup=False, soft_wrap=True)
            elif "waiting_for" in line:
                progress.update(task, description=f"waiting for {line['waiting_for']}")
            else:
                files = f"{line['files_done']}/{line['files_total']} files"
                progress.update(task, description=files, completed=line["bytes_done"], total=line["bytes_total"])

        yield show
