"""Documents that cross a boundary: strict, frozen, canonical."""
