"""How much may lie on one rank beside its blocks: the bounds that the documentation states, in bytes."""

from __future__ import annotations

__all__ = ["GATHERED_UP_TO", "REPLICATED_UP_TO"]

#: A result that is the same for all ranks (a reduction over the divided axis, a product of replicated operands) is replicated up to here;
#: above, it is divided.
REPLICATED_UP_TO = 64 * 1024 * 1024
#: An operand may be copied whole to one rank, where that is the fastest way, up to here; above, it never is.
GATHERED_UP_TO = 1024 * 1024 * 1024
