"""What the processes of a cluster have in common: which of their methods run beside each other, and their heartbeat."""

# Seconds of silence after which the front is told that there is nothing to tell.
BEAT_S = 1.0
# Methods of one group go one after the other, groups beside each other. (Ray's own default group loads.)
ORDERS, NEWS = "orders", "news"
GROUPS = {ORDERS: 1, NEWS: 1}
