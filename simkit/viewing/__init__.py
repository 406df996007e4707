"""The web viewer: pages over one store, served on this machine (`simkit view`) or exported as a file.

`simkit.viewing.api.answer(reader, path, query)` gives the JSON value behind each URL of the API without a server;
`simkit.viewing.server` serves these values and the pages in `static/`.
"""
