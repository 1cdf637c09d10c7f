"""A page as a browser takes it apart."""

from __future__ import annotations

import json
from html.parser import HTMLParser


class Parsed(HTMLParser):
    """Elements, texts and the contents of scripts, as a browser takes them apart."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.raw, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.open.clear()

    def handle_data(self, data):
        (self.raw if self.open else self.texts).append((*self.open, data))

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(data for (*_, data) in self.texts).split())

    def data(self, name):
        return json.loads(next(data for (_, attrs), data in self.raw if attrs.get("id") == name))
