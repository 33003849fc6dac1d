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


def test_nobody_is_told_that_it_is_used():
    code = (
        "from headstart.features.openvino_engine import the_core; the_core(); import openvino.tools.ovc as told\n"
        "print(told.telemetry.__class__.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
