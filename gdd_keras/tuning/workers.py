"""Worker processes of a search on this machine."""

import collections
import importlib
import multiprocessing
import multiprocessing.connection
import os
import socket
import sys
import threading

from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.files import remove_leftovers
from gdd_keras.files import storage_problem
from gdd_keras.machine import prepare_tensorflow
from gdd_keras.machine import usable_cores
from gdd_keras.quiet import quiet_import

__all__ = ["EXIT_FULL", "Workers", "local_address"]

# A worker whose memory has grown ends so, to be started anew.
EXIT_FULL = 75
_EXIT_BAD_INPUT = 2
_EXIT_FAILED = 1
_EXIT_INTERRUPTED = 130
_THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
# A trial that ends its process this often is taken for failed.
_CRASHES = 3


class Workers:
    """Starts processes that train, and starts them anew when they end early.

    Each gets its share of the cores and ends with its parent. A new one takes
    up the trial that the one before it had.

    Args:
        module: Name of the module with the functions `train_stage_1` and
            `run_trials` of search and `verbose`; only the processes import
            it.
        search: `Search`.
        address: Environment variables that name the chief.
        verbose: 1 lets them print, 0 keeps them silent.
    """

    def __init__(self, module, search, address, verbose=1):
        self._module = module
        self._search = search
        self._address = address
        self._verbose = verbose
        # Not forked: TensorFlow and gRPC do not survive that.
        self._context = multiprocessing.get_context("spawn")
        self._messages = self._context.SimpleQueue()

    def train_stage_1(self):
        """Trains what all trials share, in a process with all cores.

        Raises:
            InputError: If a setting cannot be used.
            RunError: If training diverges or the process ends early.
        """
        process = self._start("train_stage_1", {})
        try:
            process.join()
            self._raise_message(process)
            if process.exitcode:
                raise RunError(
                    f"stage 1 ended with exit code {process.exitcode}. The "
                    "same command goes on from its last checkpoint."
                )
        finally:
            self._end([process])

    def run_trials(self, number, chief, name="worker"):
        """Runs workers until the search has no more trials.

        Args:
            number: Processes at a time.
            chief: `OwnChief` or `ChiefElsewhere` of
                `gdd_keras.tuning.chiefs`.
            name: Of the workers; `-0`, `-1` and so on are added.

        Raises:
            InputError: If a worker found a setting that cannot be used.
            RunError: If the chief ends, or workers keep crashing.
        """
        threads = max(1, usable_cores() // number)
        processes = {}
        crashes = collections.Counter()
        try:
            for index in range(number):
                worker = f"{name}-{index}"
                processes[worker] = self._start_worker(worker, threads)
            while processes:
                multiprocessing.connection.wait(
                    [p.sentinel for p in processes.values()], timeout=1.0
                )
                if chief.is_gone():
                    return
                ended = [n for n in processes if not processes[n].is_alive()]
                for name in ended:
                    process = processes.pop(name)
                    self._raise_message(process)
                    if process.exitcode == 0:
                        continue
                    if process.exitcode != EXIT_FULL:
                        self._note_crash(name, process, chief, crashes)
                    processes[name] = self._start_worker(name, threads)
        finally:
            self._end(processes.values())

    def _start_worker(self, name, threads):
        return self._start(
            "run_trials",
            {
                **self._address,
                "KERASTUNER_TUNER_ID": name,
                **{
                    # What the user set for the whole command counts.
                    variable: os.environ.get(variable, str(threads))
                    for variable in _THREADS
                },
                # Several processes on one GPU must not take all its memory.
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            },
        )

    def _start(self, function, environment):
        process = self._context.Process(
            target=_run,
            args=(
                self._module,
                function,
                self._search,
                environment,
                self._verbose,
                self._messages,
            ),
            # Else a parent that fails before it ends them waits for them.
            daemon=True,
        )
        process.start()
        return process

    def _end(self, processes):
        """Kills processes and removes what they were writing."""
        for process in processes:
            process.kill()
            process.join()
        remove_leftovers(self._search.path)

    def _raise_message(self, process):
        """Raises what a process that ended had to say."""
        kind = {_EXIT_BAD_INPUT: InputError, _EXIT_FAILED: RunError}
        if process.exitcode in kind and not self._messages.empty():
            raise kind[process.exitcode](self._messages.get())

    def _note_crash(self, name, process, chief, crashes):
        """Fails a trial that keeps ending its process."""
        trial = chief.trial_of(name)
        key = name if trial is None else trial
        crashes[key] += 1
        reason = f"its process ended with exit code {process.exitcode}"
        if self._verbose:
            print(f"{name}: {reason}; starting it anew", flush=True)
        if crashes[key] < _CRASHES:
            return
        if trial is None:
            raise RunError(f"{name} does not run: {reason}.")
        chief.fail(name, f"{reason}, {_CRASHES} times")


def local_address():
    """Returns KerasTuner's variables for a chief on a free local port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
    }


def _run(module, function, search, environment, verbose, messages):
    """Is the main function of every process."""
    os.environ.update(environment)
    prepare_tensorflow()
    _end_with_parent()
    try:
        with quiet_import():
            imported = importlib.import_module(module)
        getattr(imported, function)(search, verbose=verbose)
    except KeyboardInterrupt:
        # The parent got it too, and tells.
        sys.exit(_EXIT_INTERRUPTED)
    except InputError as error:
        messages.put(str(error))
        sys.exit(_EXIT_BAD_INPUT)
    except RunError as error:
        messages.put(str(error))
        sys.exit(_EXIT_FAILED)
    except Exception as error:
        problem = storage_problem(error)
        if problem is None:
            raise
        messages.put(f"{problem}; the same command goes on with the search.")
        sys.exit(_EXIT_FAILED)


def _end_with_parent():
    """Ends this process when its parent does, however that ends.

    A worker that outlived its chief would write into the trial that the next
    chief hands to another worker.
    """
    sentinel = multiprocessing.parent_process().sentinel

    def watch():
        multiprocessing.connection.wait([sentinel])
        os._exit(_EXIT_FAILED)

    threading.Thread(target=watch, daemon=True).start()
