"""Keeps the servers of Beam's own runner on this machine.

The DirectRunner talks to its workers, which are processes of this machine,
through four servers that listen on every network and ask no one for a name:
whoever reaches them can hand work to the workers.
"""

import contextlib
import types

from apache_beam.runners.portability.fn_api_runner import worker_handlers

__all__ = ["local_ports"]

_EVERYWHERE = "[::]:"
_HERE = "localhost:"


@contextlib.contextmanager
def local_ports():
    """Makes servers that the DirectRunner starts inside listen locally."""
    grpc = worker_handlers.grpc

    def server(*arguments, **options):
        made = grpc.server(*arguments, **options)
        add_port = made.add_insecure_port
        made.add_insecure_port = lambda address: add_port(
            address.replace(_EVERYWHERE, _HERE)
        )
        return made

    # Beam has no option for it. Its own module alone sees another `grpc`.
    worker_handlers.grpc = types.SimpleNamespace(
        **{**vars(grpc), "server": server}
    )
    try:
        yield
    finally:
        worker_handlers.grpc = grpc
