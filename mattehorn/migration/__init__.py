"""The same photos through two services, for somebody who changes from one to the other."""
