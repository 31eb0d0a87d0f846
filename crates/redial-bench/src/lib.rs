//! What the layers cost beside their peers, in instructions, nanoseconds and allocations.
