"""The pages of the documentation site: documents of the checkout, and references made from the code."""
