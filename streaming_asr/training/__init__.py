"""The recipe: recordings and text in, a served model out. Serving never imports this package."""
