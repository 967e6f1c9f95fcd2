"""One request and its answer, over HTTP (`app`) and gRPC (`grpc_service`), with no Ray.

`served` is the one reference to the model that answers, `arms` the choice between champion and challenger, `batching`
puts requests together that arrive together, `copying` asks a challenger in the shadow, `tally` counts. `protocol` is
the Open Inference Protocol, `openapi` the page that describes it for one model.
"""
