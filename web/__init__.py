"""The static files of the page at `/` and of `/docs`; deployments/ingress/pages.py serves this package's folder."""
