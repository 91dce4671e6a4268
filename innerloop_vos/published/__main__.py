"""`python -m innerloop_vos.published`: print the page of published systems."""

from innerloop_vos.published.page import page
from innerloop_vos.published.reading import read_published

if __name__ == "__main__":
    print(page(read_published()), end="")
