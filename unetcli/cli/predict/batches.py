"""Many images in one call: each has its place, and one that is bad is told of and spoils no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unetcli import report
from unetcli.cli.distributing import say_before
from unetcli.errors import ConfigError, DataError, PartialError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from unetcli.cli.predict.wishes import Kind
    from unetcli.data.formats.masks import Outputs
    from unetcli.engine import Company

Failures = dict[str, str]
"""What is wrong with each image that was not done."""


def plan_masks(
    paths: Sequence[Path], output: Path, kind: Kind, *, overwrite: bool = False, **more: bool
) -> tuple[Sequence[Outputs], Failures]:
    """Where each mask goes, and what is wrong with the images that cannot be read; an error if none can.

    What else is written is in `more`, as `Kind.plan` names it.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output}: is a file, not a folder for masks", hint="name a folder")
    readable: list[Path] = []
    failures: Failures = {}
    for path in paths:
        try:
            kind.check(path)
            readable.append(path)
        except DataError as error:
            if len(paths) == 1:
                raise
            say_before(f"error: {error}")
            failures[str(path)] = str(error)
    if not readable:
        raise DataError(f"none of the {len(paths)} images can be read: {next(iter(failures.values()))}")
    return kind.plan(readable, output, overwrite=overwrite, **more), failures


def do_all(
    plan: Sequence[Outputs], do: Callable[[Outputs], dict[str, Any]], failures: Failures, company: Company | None = None
) -> list[dict[str, Any]]:
    """What was done of image after image; one that fails is added to the failures, and raised if it is the only one.

    Args:
        plan: The images.
        do: Does one of them.
        failures: Of images that are not in the plan.
        company: The processes that share the images out; each then says what it was that failed with it.

    Raises:
        DataError: If none was done.
    """

    def attempt(outputs: Outputs) -> dict[str, Any]:
        try:
            return {"done": do(outputs)}
        except DataError as error:
            if len(plan) == 1 and not failures:
                raise
            report.say(f"error: {error}")
            return {"failed": str(error), "by": company.rank if company else 0}

    found = company.in_turn(plan, attempt) if company else [attempt(outputs) for outputs in plan]
    for outputs, each in zip(plan, found, strict=True):
        if "failed" in each:
            failures[str(outputs.image)] = each["failed"]
            if company and each["by"] != company.rank:
                report.say(f"error: {each['failed']}")
    if len(failures) and all("failed" in each for each in found):
        raise DataError(f"none of the {len(failures)} images could be segmented: {', '.join(failures)}")
    return [each["done"] for each in found if "done" in each]


def raise_failures(failures: Mapping[str, str], num_images: int) -> None:
    """Raise `PartialError` if some images were not done."""
    if failures:
        raise PartialError(f"{len(failures)} of {num_images} images failed: {', '.join(failures)}")
