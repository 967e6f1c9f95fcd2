"""The model package: the wall between training and serving.

`Lineage` says where a model came from.
"""

from deploy.bundle.lineage import Lineage

__all__ = ["Lineage"]
