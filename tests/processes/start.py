"""Starts Python programs as processes of one run, and waits for their end."""

import os
import random
import socket
import subprocess
import sys

import tiny


def free_port() -> int:
    """Returns a port below those that the kernel gives away, so that nobody takes it before it is used."""
    while True:
        with socket.socket() as trial:
            port = random.SystemRandom().randrange(20000, 32000)
            if trial.connect_ex(('localhost', port)):
                return port


def start(*words: object, **environment: str) -> subprocess.Popen:
    """Starts Python with these words, on two CPU devices."""
    ours = {'PYTHONPATH': str(tiny.ROOT), 'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '2'}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tiny.ROOT,
        env=os.environ | ours | environment,
    )


def ends(*processes: subprocess.Popen, within: float = 100) -> list[tuple[int, str, str]]:
    """Returns exit status, stdout and stderr of processes, which must end by themselves."""
    try:
        said = [process.communicate(timeout=within) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(process.returncode, *text) for process, text in zip(processes, said, strict=True)]
