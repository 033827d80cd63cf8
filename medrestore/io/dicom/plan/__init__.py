"""Which slices of a folder belong together, in which order, and on which grid."""
