"""The Ray Serve application: ingress, compose and matting. Thin glue around the library `mattehorn`."""
