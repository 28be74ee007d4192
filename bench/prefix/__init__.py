"""Ways to spread requests over replicas, by what real vLLM found in its prefix cache.

``__main__`` parses the command line, ``comparison`` lets the ways take turns in front of the same
``engines``, whose caches hold a part of all ``conversations``; ``report`` says what came out.
What that was: docs/adr/0020-prefix-hash.md.
"""
