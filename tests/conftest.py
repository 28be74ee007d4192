"""What all tests share: how properties are tried."""

from hypothesis import settings

# the same examples each time, however slow the machine is; `--hypothesis-profile=explore` tries
# others
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")
