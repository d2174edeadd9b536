"""The gateway's world: tenants, their requests, providers and attacks, all made here."""
