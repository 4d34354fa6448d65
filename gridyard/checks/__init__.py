"""The checks of `gridyard doctor`."""
