"""The contract of channel layers as a test suite, to be run on any layer by subclassing one class.

::

    from sealane.testing.layer_contract import ChannelLayerContract

    class TestMyLayer(ChannelLayerContract):
        def make_layer(self, **options):
            return MyLayer(**options)

It needs pytest and pytest-asyncio, in either of its modes; no other module of ``sealane.testing`` but the plugin does.
"""

from sealane.testing.layer_contract import (
    _dead_letters,
    _deliveries,
    _endings,
    _groups,
    _limits,
    _messages,
    _names,
    _owners,
    _receiving,
    _threads,
    _together,
)

__all__ = ["ChannelLayerContract"]


class ChannelLayerContract(
    _names.NamesContract,
    _messages.MessagesContract,
    _receiving.ReceivingContract,
    _groups.GroupsContract,
    _limits.LimitsContract,
    _owners.OwnersContract,
    _threads.ThreadsContract,
    _endings.EndingsContract,
    _deliveries.DeliveriesContract,
    _dead_letters.DeadLettersContract,
    _together.TogetherContract,
):
    """Tests of the contract in the docstrings of BaseChannelLayer. Subclass it and define ``make_layer``.

    Tests of ``attach()`` are skipped where it returns None, and those of ``receive_delivery()`` where the layer has no
    "acknowledgements" in its ``extensions``. Override ``advance`` where the layer's clock can be set,
    and ``EXPIRY`` where it cannot and half a second is too short a life for a message.
    """
