"""A cluster on one machine: nodes, engines and proxies in network namespaces, and phones that use them."""
