"""What runs inside an engine's processes: the errors that end vLLM become its last words.

Real processes, with a program called vllm in place of vLLM, and the command of an engine's pod.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from endpoint_operator import names
from endpoint_operator.desired import files, vllm

IMPORTS = "import logging, subprocess, sys\n"


@dataclass(frozen=True)
class Engine:
    """A folder with a program called vllm, and our file where Python finds it."""

    folder: Path
    message: Path

    def run(self, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the program as an engine's container runs vLLM."""
        vllm_program = self.folder / "vllm"
        vllm_program.write_text(f"#!{sys.executable}\n{IMPORTS}{program}")
        vllm_program.chmod(0o755)
        command = [part.replace(files.DIRECTORY, str(self.folder)) for part in vllm.COMMAND]
        return subprocess.run(
            [*command, "model", "--port", "8000"],
            env={"PATH": f"{self.folder}:{os.environ['PATH']}", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def said(self, program: str, **environment: str) -> list[str]:
        """Return the lines of the termination message that the program leaves."""
        self.run(program, **environment)
        return self.message.read_text().splitlines() if self.message.exists() else []


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    message = tmp_path / "termination-log"
    text = files.start_file().replace("/dev/termination-log", str(message))
    (tmp_path / names.START_FIELD).write_text(text)
    return Engine(tmp_path, message)


def test_vllm_gets_its_arguments_and_its_image_s_modules(engine: Engine) -> None:
    done = engine.run("print(sys.argv[1:], sys.path)", PYTHONPATH="/plugins")
    assert "['serve', 'model', '--port', '8000']" in done.stdout
    assert "'/plugins'" in done.stdout
    assert done.returncode == 0


def test_vllm_takes_the_place_of_the_shell(engine: Engine) -> None:
    done = engine.run("import os\nprint(os.getpid(), os.getppid())")
    own, parent = map(int, done.stdout.split())
    assert (own != os.getpid(), parent) == (True, os.getpid())


def test_an_error_that_nobody_catches_is_noted_with_what_caused_it(engine: Engine) -> None:
    program = """
try:
    {}["weights"]
except KeyError as error:
    raise ValueError("no\\n  weights") from error
"""
    assert engine.said(program) == [
        "ValueError: no weights (in <module>)",
        "KeyError: 'weights' (in <module>)",
    ]


def test_it_is_shown_as_ever(engine: Engine) -> None:
    done = engine.run("raise ValueError('no weights')")
    assert done.stderr.endswith("ValueError: no weights\n")
    assert done.returncode == 1


ENGINE_CORE = """
def fail(name):
    try:
        raise RuntimeError(f"of {name}")
    except RuntimeError:
        logging.getLogger(name).exception("failed")
"""


@pytest.mark.parametrize(
    ("logger", "noted"),
    [
        pytest.param("vllm.v1.engine.core", True, id="the engine's core"),
        pytest.param("vllm.v1.executor.multiproc_executor", True, id="a worker"),
        pytest.param("vllm.entrypoints.openai.serving_chat", False, id="a request"),
        pytest.param("vllm.transformers_utils.repo_utils", False, id="an attempt"),
    ],
)
def test_of_logged_errors_those_are_noted_that_end_a_process(
    engine: Engine, logger: str, *, noted: bool
) -> None:
    said = engine.said(f"{ENGINE_CORE}\nfail({logger!r})")
    assert said == ([f"RuntimeError: of {logger} (in fail)"] if noted else [])


def test_a_factory_of_records_that_vllm_puts_over_ours_changes_nothing(engine: Engine) -> None:
    program = f"""{ENGINE_CORE}
ours = logging.getLogRecordFactory()
logging.setLogRecordFactory(lambda *args, **kwargs: ours(*args, **kwargs))
fail("vllm.v1.engine.core")
"""
    assert engine.said(program) == ["RuntimeError: of vllm.v1.engine.core (in fail)"]


def test_warnings_and_errors_without_an_exception_are_not_noted(engine: Engine) -> None:
    program = """
logger = logging.getLogger("vllm.v1.engine.core")
logger.error("said")
try:
    raise ValueError
except ValueError:
    logger.warning("also said", exc_info=True)
"""
    assert engine.said(program) == []


def test_other_programs_of_python_end_as_they_like(engine: Engine) -> None:
    program = "subprocess.run([sys.executable, '-c', 'raise ValueError(1)'])"
    assert engine.said(program) == []


def test_an_interruption_is_no_error(engine: Engine) -> None:
    assert engine.said("raise KeyboardInterrupt") == []


def test_a_refusal_of_arguments_is_left_to_the_log(engine: Engine) -> None:
    program = "import argparse\nargparse.ArgumentParser().parse_args()"
    assert engine.said(program) == []


def test_what_was_noted_first_is_kept_within_what_kubernetes_takes(engine: Engine) -> None:
    program = f"""{ENGINE_CORE}
for number in range(99):
    fail(f"vllm.v1.executor.{{number}}" + "x" * 500)
"""
    said = engine.said(program)
    assert said[0].startswith("RuntimeError: of vllm.v1.executor.0x")
    assert len("\n".join(said)) <= 4096
    assert len(said) > 3


def test_a_long_error_is_one_line_that_is_cut(engine: Engine) -> None:
    (line,) = engine.said("raise ValueError('x\\n' * 9000)")
    assert line.endswith(" (in <module>)")
    assert len(line) < 830


def test_vllm_can_be_ended_before_it_handles_signals(engine: Engine) -> None:
    file = engine.folder / names.START_FIELD
    file.write_text(file.read_text().replace("FIRST_PROCESS = 1", "FIRST_PROCESS = os.getpid()"))
    program = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)"
    assert engine.run(program).returncode == 143


def test_a_message_that_can_t_be_written_changes_nothing(engine: Engine) -> None:
    engine.message.mkdir()
    done = engine.run("raise ValueError('no weights')")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
