"""The desktop application: the only code that knows Dear PyGui."""
