"""The OpenVINO engine: engines that come and go leave the process able to take a signal."""

import subprocess
import sys

ENGINES_AND_A_SIGNAL = """
import faulthandler, os, signal
from headstart.features import openvino_engine
faulthandler.enable()
signal.signal(signal.SIGINT, lambda *_: None)
first = openvino_engine.the_core()
openvino_engine.cpu_precision("auto")
assert openvino_engine.the_core() is first
os.kill(os.getpid(), signal.SIGINT)
print("alive")
"""


def test_a_signal_finds_a_stack_after_several_uses():
    done = subprocess.run(
        [sys.executable, "-c", ENGINES_AND_A_SIGNAL], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
