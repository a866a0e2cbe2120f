"""Action → route, mark and verdict; the guards that speak it; what an endpoint is mounted to."""
