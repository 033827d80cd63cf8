"""Physics of the measurement: noise models, operators, slice profiles."""
