"""Measure how much of a caption is stock phrases of web pages, shops, agencies and programs.

Two lists: phrases that say nothing of the picture wherever they stand, and texts that say nothing
when they are the whole caption ("photo" is a fair word in "photo of a cat"). English only, since
most such texts are. Names of sites and licences are no opinion of them.
"""

from __future__ import annotations

import re

# Written by programs. Source: COYO-700M README, "Text Level" ("Load image into Gallery viewer",
# "thumbnail for", "image for", "picture of"); Facebook's automatic alt text ("may be an image of");
# WordPress ("This image has an empty alt attribute; its file name is"); the rest chosen by us from
# what common shop and blog systems write.
_PROGRAMS = (
    "load image into gallery viewer", "open image in gallery", "open media in modal",
    "open featured media in gallery view", "this image has an empty alt attribute",
    "its file name is", "image may contain", "may be an image of", "no photo description available",
    "no description available", "no alternative text description for this image",
    "image result for", "thumbnail for", "thumbnail of", "preview image", "placeholder image",
    "no image available", "no photo available", "no picture available", "no image found",
    "image not available", "image not found", "image unavailable", "image is unavailable",
    "image no longer available", "image is no longer available", "image coming soon",
    "photo coming soon", "image loading", "loading image", "user avatar", "profile picture of",
    "profile photo of", "image description", "enter image description here", "alt text",
)  # fmt: skip
# Furniture of pages. Chosen by us.
_PAGES = (
    "click here", "click to enlarge", "click to zoom", "click to view", "click image", "click on",
    "click for more", "click the image", "view larger image", "view full size", "view full image",
    "view image in fullscreen", "enlarge image", "zoom image", "read more", "learn more",
    "see more", "view more", "show more", "load more", "continue reading", "find out more",
    "skip to content", "back to top", "opens in a new window", "opens in a new tab",
    "open in new window", "share on facebook", "share on twitter", "share on pinterest",
    "share this", "pin it", "follow us", "like us on facebook", "sign up", "sign in", "log in",
    "subscribe now", "watch now", "swipe up", "link in bio", "featured image",
)  # fmt: skip
# Shops. Chosen by us.
_SHOPS = (
    "free shipping", "free delivery", "free returns", "fast shipping", "worldwide shipping",
    "buy now", "shop now", "order now", "add to cart", "add to basket", "add to wishlist",
    "buy online", "shop online", "for sale", "on sale", "best price", "lowest price", "low price",
    "sale price", "regular price", "special offer", "limited offer", "out of stock", "sold out",
    "money back guarantee", "discount code", "coupon code", "free download", "download now",
    "download free", "free printable", "instant download",
)  # fmt: skip
# Agencies and credits. Chosen by us after LAION's and COYO's samples.
_CREDITS = (
    "stock photo", "stock photos", "stock image", "stock images", "stock picture",
    "stock photography", "stock illustration", "stock illustrations", "stock vector",
    "stock footage", "royalty free", "rights managed", "shutterstock", "getty images", "istock",
    "istockphoto", "alamy", "dreamstime", "depositphotos", "123rf", "adobe stock", "fotolia",
    "unsplash", "pexels", "photo by", "photos by", "image by", "picture by", "photograph by",
    "photo credit", "image credit", "picture credit", "photo courtesy of", "image courtesy of",
    "courtesy of", "image copyright", "image caption", "image source", "photo source", "copyright",
    "all rights reserved", "via wikimedia commons", "creative commons",
)  # fmt: skip
# Consent and warnings of sites. Chosen by us.
_CONSENT = (
    "accept cookies", "accept all cookies", "we use cookies", "uses cookies", "cookie policy",
    "cookie settings", "privacy policy", "terms of use", "terms of service",
    "terms and conditions", "enable javascript", "javascript is disabled",
    "your browser does not support",
)  # fmt: skip

# Whole captions that name the kind of thing, the place on the page or nothing. Chosen by us.
_WORDS = (
    "photo photos image images img pic pics picture pictures thumbnail thumb logo banner icon "
    "avatar untitled unnamed screenshot download placeholder default null undefined none nan alt "
    "header footer home menu search close next previous prev back gallery slideshow slide cover "
    "poster featured preview loading facebook twitter instagram pinterest youtube linkedin "
    "whatsapp rss email share blog post product item media main test nice"
)
PLACEHOLDERS = frozenset(
    (
        *_WORDS.split(), "n a", "my picture", "my image", "my photo", "no description", "no title",
        "no name", "picture of", "image of", "photo of", "image for", "photo for", "picture for",
        "product image", "product photo", "main image", "blog image", "hero image", "header image",
        "background image", "cover image", "profile picture", "profile photo", "site logo",
        "company logo", "image title", "title image", "image alt text", "no image", "no photo",
        "no picture", "image 1", "photo 1",
    )
)  # fmt: skip


def _phrase_pattern(phrases: list[str]) -> re.Pattern[str]:
    """Match whole words; a space may be any white space or a hyphen."""
    longest_first = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    joined = "|".join(re.escape(phrase).replace(r"\ ", r"[\s-]+") for phrase in longest_first)
    counted = r"(?:image|photo|picture|slide|page)\s+\d{1,3}\s+of\s+\d{1,3}"
    return re.compile(rf"(?<![^\W_])(?:{joined}|{counted})(?![^\W_])", re.I)


_PHRASES = _phrase_pattern([*_PROGRAMS, *_PAGES, *_SHOPS, *_CREDITS, *_CONSENT])
_NO_WORD = re.compile(r"[\W_]+")
_MAX_PLACEHOLDER_CHARACTERS = 64  # longer texts are no placeholders, and need not be copied


def measure_boilerplate(text: str) -> float:
    """Give the share of a text's characters (but white space) in stock phrases, 0..1.

    >>> [measure_boilerplate(text) for text in ("Click here!", "photo", "photo of a cat")]
    [0.9, 1.0, 0.0]
    """
    if is_placeholder(text):
        return 1.0
    num_visible = _count_visible(text)
    num_stock = sum(_count_visible(match.group()) for match in _PHRASES.finditer(text))
    return num_stock / num_visible if num_visible else 0.0


def is_placeholder(text: str) -> bool:
    """Tell whether the whole text stands in `PLACEHOLDERS`; case and signs do not count."""
    if len(text) > _MAX_PLACEHOLDER_CHARACTERS:
        return False
    return _NO_WORD.sub(" ", text.casefold()).strip() in PLACEHOLDERS


def _count_visible(text: str) -> int:
    return sum(map(len, text.split()))
