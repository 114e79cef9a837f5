"""`unet prepare`: published files to a checked dataset folder; one file per source."""

from __future__ import annotations

import typer

from unetcli.cli.prepare import coco, folder, isbi, luna16, msd, nuclei

app = typer.Typer(no_args_is_help=True)


@app.callback()
def prepare() -> None:
    """Check published images and labels, and make a dataset folder of them."""


app.command("isbi")(isbi.isbi)
app.command("luna16")(luna16.luna16)
app.command("msd")(msd.msd)
app.command("nuclei")(nuclei.nuclei)
app.command("coco")(coco.coco)
app.command("folder")(folder.folder)
