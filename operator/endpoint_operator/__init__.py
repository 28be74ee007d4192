"""The operator: it keeps a vLLM workload running for every InferenceEndpoint.

``handlers`` is the way in, ``reconcile`` the story; everything between them and the API server is
a function from values to values. ``docs/ARCHITECTURE.md`` tells the flow.
"""
