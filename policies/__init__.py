"""Learning a router: PPO over the routing environment, and its export to a served artifact."""
