"""What stands before the replicas, and the short ways in: HAProxy or Serve's proxy, gRPC's door, Serve itself.

`choice` says which of the two it is. `shortcut` and `direct` are the ways from a replica's socket to its application,
`heads` remembers what a request's head said, `proxy` holds Serve's own proxy to HAProxy's limits of headers,
`renewal` gives servers that go on a renewed certificate,
`serve_instance` starts and ends Serve, `orphans` and `ports` deal with what a killed one left behind.
"""
