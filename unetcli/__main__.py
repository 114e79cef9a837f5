"""`python -m unetcli`, the form that MindSpore's launcher starts."""

from unetcli.cli import app

if __name__ == "__main__":
    app(prog_name="unet")
