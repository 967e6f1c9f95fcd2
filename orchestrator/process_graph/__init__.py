"""One Ray cluster, two tenants: what joins tuning and serving.

`session` starts or finds the cluster, `launch` brings up a study's two actors (`study_actor` is its one writer,
`runner` holds the Tune experiment), `promoter` carries bundles to the endpoint, `graph` draws what runs.
"""
