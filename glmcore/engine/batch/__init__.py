"""Many answers at once: who is served next, what that costs, and the one thread that makes a step for all of them."""
