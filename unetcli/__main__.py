"""`python -m unetcli`, the form that MindSpore's launcher starts."""

from unetcli.cli import app
from unetcli.launching import membership

if __name__ == "__main__":
    with membership() as arguments:
        app(arguments, prog_name="unet")
