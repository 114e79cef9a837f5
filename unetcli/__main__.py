"""`python -m unetcli`, the form that MindSpore's launcher starts."""

from unetcli.cli import app
from unetcli.launching import membership

if __name__ == "__main__":
    with membership():
        app(prog_name="unet")
