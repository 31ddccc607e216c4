"""What a run used and made: machine, inputs, outputs, metrics files."""
