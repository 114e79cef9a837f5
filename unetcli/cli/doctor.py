"""`unet doctor`: whether this installation works."""

from __future__ import annotations

from typing import Annotated

import typer

from unetcli.cli.options import Device, DeviceOption, JsonOption


def doctor(
    device: DeviceOption = Device.auto,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Train a small network for about 2 seconds, as a proof.")
    ] = True,
    json_report: JsonOption = False,
) -> None:
    """Say whether this installation works, and what to do where it does not.

    It works also where MindSpore or another package is missing or broken. Nothing is changed or sent anywhere.
    """
    from unetcli import report
    from unetcli.errors import DeviceError
    from unetcli.installation.examining import examine

    findings = examine(device.value, trains=train, say=report.say)
    report.show_installation({finding.name: finding.as_json() for finding in findings}, as_json=json_report)
    if problems := [finding.name for finding in findings if finding.status == "problem"]:
        raise DeviceError(
            f"this installation does not work: {', '.join(problems)}", hint="take the next steps in their order"
        )
