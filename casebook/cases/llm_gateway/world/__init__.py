"""The world of case 20: tenants with their traffic, and providers that fail."""
