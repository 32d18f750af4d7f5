"""Forms: what an invoice or a statement looks like on paper, on a screen and to another machine."""
