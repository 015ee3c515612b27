"""Sessions are opened and closed, then an interrupt comes; faulthandler gives signals a stack.

Reads the files, the model and the detector, pickled, from standard input. Says "interrupted".
"""

import faulthandler
import os
import pickle
import signal
import sys
import threading
import time

from rsna_lumbar.runtime.backends import SessionSettings
from rsna_lumbar.runtime.backends.openvino import open_session

faulthandler.enable()
files, model, detector = pickle.load(sys.stdin.buffer)
settings = SessionSettings("cpu", 1)
sessions = [open_session(files, model, detector, settings) for _ in range(2)]


def close() -> None:
    while sessions:
        sessions.pop(0).close()


if sys.argv[1] == "here":
    close()
else:
    closing = threading.Thread(target=close)
    closing.start()
    closing.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    print("interrupted")
