"""The gateway beside others: the same engine behind them, the same load in front, in one run.

``__main__`` parses the command line, ``comparison`` lets the contestants take turns, ``phases``
measures one of them; ``report`` says what came out. Why so:
docs/adr/0018-bench-gateway.md.
"""
