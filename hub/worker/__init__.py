"""The evaluation worker: a client that claims jobs over HTTP, runs them in a child process and reports outcomes.

It has a token that can lease and report, and nothing else: no database, no inbound port.
"""
