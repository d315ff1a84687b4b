"""What Salt's loader takes as cloud drivers."""
