"""Information geometry: metrics, natural gradients and the matrix factorisations below them."""
