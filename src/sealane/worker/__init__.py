"""Workers: what is sent to named channels is handled by consumers, in a process of their own or beside a server."""

from sealane.worker.worker import Worker

__all__ = ["Worker"]
