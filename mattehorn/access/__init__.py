"""Who may do what, and how much of it: tenants, their keys and scopes, their budgets of megapixels."""
