"""Share what a run made: policies, recordings, and fingerprints with their anchors.

Each is a folder; `push` checks it, writes its card, and copies it to another folder or to a repository of
the Hugging Face hub. `pull` brings one here, whole or not at all.
"""

from stepwise.hub.kinds import KINDS, Kind, kind_of
from stepwise.hub.share import pull, push

__all__ = ["KINDS", "Kind", "kind_of", "pull", "push"]
