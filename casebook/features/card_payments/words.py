"""The words of a card payment; a code is a word's place."""

CHANNELS = ("in person", "online")
#: How a card was read.
ENTRIES = ("chip", "contactless", "wallet", "magstripe", "typed", "stored")
#: What came of a payment. Approved and confirmed went through; the others did not.
OUTCOMES = ("approved", "confirmed", "denied", "abandoned", "declined")
#: Lines of business.
CATEGORIES = (
    *("grocery", "restaurant", "fuel", "transport", "pharmacy", "clothes", "electronics"),
    *("cash", "marketplace", "digital", "delivery", "travel"),
)
COUNTRIES = ("home", "north", "east", "south", "west")
