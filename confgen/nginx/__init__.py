"""What nginx is to serve, decided from the catalog, and how it is written."""
