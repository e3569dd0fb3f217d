"""What the processes of a cluster have in common: methods that run beside each other, and how often they speak."""

# Seconds of silence after which the front is told that there is nothing to tell.
BEAT_S = 1.0
# Seconds from one message that says something to the next: what is said within them goes together.
PACE_S = 0.01
# Methods of one group go one after the other, groups beside each other. (Ray's own default group loads.)
ORDERS, NEWS = "orders", "news"
GROUPS = {ORDERS: 1, NEWS: 1}
