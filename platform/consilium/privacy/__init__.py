"""Pure functions over (P,) vectors and keys: clipping, fixed point, signatures. Knows no framework."""
