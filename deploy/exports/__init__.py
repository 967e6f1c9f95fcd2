"""Doors out: a bundle as other servers take it, so that nobody has to stay.

`triton` writes a model repository, `kserve` an InferenceService, `serve_config` a configuration for Ray's own
`serve deploy`, `container` a directory with a Dockerfile. Each writes into a new directory.
"""

from deploy.exports.container import export_container
from deploy.exports.kserve import export_kserve
from deploy.exports.serve_config import export_serve_config
from deploy.exports.triton import export_triton

__all__ = ["export_container", "export_kserve", "export_serve_config", "export_triton"]
