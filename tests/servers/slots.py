"""Which hash slot of a Cluster a key is in."""

import binascii

__all__ = ["SLOTS", "slot_of"]

#: The number of hash slots of every Cluster.
SLOTS = 16384


def slot_of(key: str | bytes) -> int:
    """Return the slot as the Cluster specification has it: CRC16 of the hash tag, or of the whole key without one."""
    data = key.encode() if isinstance(key, str) else key
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return binascii.crc_hqx(data, 0) % SLOTS
