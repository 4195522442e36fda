"""The nginx templates, installed as `confgen.templates`. They only lay out: `confgen.nginx.view` decides."""
