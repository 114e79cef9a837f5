"""Starting `unet` in several processes under MindSpore's launcher, and staying with them until all have ended.

Needs no MindSpore: what the processes say to each other is the engine's part.
"""

from unetcli.launching.cluster import Cluster, own_cores, parse_master
from unetcli.launching.membership import is_launched, membership
from unetcli.launching.place import Place, place_of
from unetcli.launching.supervision import launch

__all__ = ["Cluster", "Place", "is_launched", "launch", "membership", "own_cores", "parse_master", "place_of"]
