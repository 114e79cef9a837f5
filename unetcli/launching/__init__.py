"""Starting `unet` in other processes: in several under MindSpore's launcher, or in one after the other.

Needs no MindSpore: what the processes say to each other is the engine's part.
"""

from unetcli.launching.cluster import Cluster, own_cores, parse_master
from unetcli.launching.membership import membership
from unetcli.launching.place import Place, place_of
from unetcli.launching.succession import Ended, Succession
from unetcli.launching.supervision import launch

__all__ = ["Cluster", "Ended", "Place", "Succession", "launch", "membership", "own_cores", "parse_master", "place_of"]
