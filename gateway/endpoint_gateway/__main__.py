"""The gateway's process: read the settings, set up logging, run.

`python -m endpoint_gateway --help` lists the settings. This is the outer of the two shells.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import uvloop

from . import settings as settings_module
from .app import run
from .errors import CannotListen, ClusterError, SettingsError


class _JsonLines(logging.Formatter):
    """One line of JSON per message, as the access log has them."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "log": record.name,
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _parse_arguments() -> Path | None:
    parser = argparse.ArgumentParser(
        prog="endpoint-gateway",
        description="OpenAI-compatible gateway in front of vLLM endpoints.",
        epilog="Settings are environment variables:\n" + settings_module.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help=settings_module.CONFIG_MEANING)
    config: Path | None = parser.parse_args().config
    return config


def _serve(config: Path | None) -> None:
    settings, static = settings_module.load_settings(os.environ, config=config)
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings, static, environ=os.environ))


def main() -> None:
    """Run the gateway; status 2 with settings or a file of no use, 1 without API server or port."""
    try:
        _serve(_parse_arguments())
    except SettingsError as error:
        sys.stderr.write(f"endpoint-gateway: {error}\n")
        sys.exit(2)
    except ClusterError as error:
        logging.critical("the API server can't be used: %s", error)
        sys.exit(1)
    except CannotListen as error:
        logging.critical("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
