"""The operator beside one in Go: same endpoints, same children, same rights, same machine.

``__main__`` parses the command line, ``comparison`` runs the contestants in turn, ``phases``
measures one of them; ``report`` says what came out. Why these figures: docs/adr/0014-bench.md.
"""
