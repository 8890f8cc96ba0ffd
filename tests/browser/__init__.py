"""What the package brings for pages, in a real browser."""
