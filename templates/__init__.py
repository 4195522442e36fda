"""The nginx templates, installed as `confgen.templates`. They lay text out; every decision is taken in `confgen.view`."""
