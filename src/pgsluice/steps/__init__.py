"""The steps of the data's way: catalog, staging, relay, merge, audit, state, watch. None imports another."""
