"""Training in torch. Runtime code never imports this package."""
