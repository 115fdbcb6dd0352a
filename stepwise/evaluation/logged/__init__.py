"""What a gateway's log says of another router: chains with the chance of every decision, and estimates."""
