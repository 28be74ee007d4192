"""The command line's entry: refuses an old Python in words instead of a traceback."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the very check that the rule wants to remove
    sys.exit("error: Python 3.11 or newer is needed; this is " + sys.version.split()[0])

from hack.cluster import cli

sys.exit(cli.main(sys.argv[1:]))
