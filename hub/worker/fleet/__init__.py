"""A worker whose adapters run on the machines of a Ray cluster (`vera-hub worker --engine ray`).

    member    what runs on a node: one process for each GPU, with a base kept warm
    cluster   the members, as the worker's process sees them: lent, given back, made anew when they are lost
    shards    what travels between the two
    engine    one request divided among members, and the replies put together again

The hub knows nothing of it: token, leases, right answers and the key stay in the worker's process.
"""
