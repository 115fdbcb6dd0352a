"""Studies of recorded chains of thought: real models' text and reward models' scores, nothing generated."""
