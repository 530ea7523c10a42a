"""What AWS offers: instance types, prices, images; the plan and estimate made from them."""
