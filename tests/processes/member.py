"""One process of two, for test_joining.py: `member.py PORT PROCESS ACTION WHO [NUM_PROCESSES [TIMEOUT]]`.

All sum over all processes; then process WHO (-1: all) does ACTION, and the others wait for it in the next sum.
"""

import os
import pathlib
import sys
import time

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from ltjax.errors import Preempted, UserError
from ltjax.processes.detection import Member
from ltjax.processes.joining import joined

ERRORS = {
    'mistake': UserError('a mistake'),
    'bug': ZeroDivisionError('a bug'),
    'stop': Preempted('stopped'),
}


def total() -> float:
    return float(multihost_utils.process_allgather(np.float32(1 + jax.process_index())).sum())


def main(
    port: str, process: str, action: str, who: str, count: str = '2', timeout: str = '60'
) -> None:
    member = Member(f'localhost:{port}', int(count), int(process))
    with joined(member, ConfigDict(), pathlib.Path('absent'), timeout=float(timeout)):
        for stream in (sys.stdout, sys.stderr):
            print(f'the sum is {total()}', file=stream, flush=True)
        if who in (process, '-1'):
            match action:
                case 'finish':
                    time.sleep(5 * (process == '0'))
                    return
                case 'kill':
                    os.kill(os.getpid(), 9)
            raise ERRORS[action]
        total()


if __name__ == '__main__':
    main(*sys.argv[1:])
