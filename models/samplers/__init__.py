"""How a trained network turns noise into showers."""
