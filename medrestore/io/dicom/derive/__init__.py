"""A derived series: what is written in place of the one that was read."""
