"""The start of the operator's process: ``endpoint-operator`` or ``python -m endpoint_operator``."""

import gc

GARBAGE_THRESHOLD = 10_000
"""New objects between two looks for cycles; nearly all that a start makes stays."""


def main() -> None:
    """Run the operator with the settings of the environment; see ``process``."""
    gc.disable()  # looking for garbage among what is imported is a sixth of what that costs
    from endpoint_operator import process  # noqa: PLC0415

    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    gc.enable()
    process.main()


if __name__ == "__main__":
    main()
